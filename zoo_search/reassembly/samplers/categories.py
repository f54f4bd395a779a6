"""A recipe as one categorical choice a stage, as Optuna sees it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from optuna.distributions import CategoricalDistribution

from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.space.choices import Choices


def distributions(choices: Choices) -> dict[str, CategoricalDistribution]:
    """Return Optuna's categorical distribution of each stage's blocks, by name of the stage."""
    return {
        f"stage {stage}": CategoricalDistribution([str(block) for block in blocks])
        for stage, blocks in enumerate(choices.stages)
    }


def recipe_of(choices: Choices, params: Mapping[str, object]) -> Recipe:
    """Return the recipe that a choice at each stage means."""
    return choices.recipe(
        [
            next(block for block in options if str(block) == params[f"stage {stage}"])
            for stage, options in enumerate(choices.stages)
        ]
    )


def params_of(recipe: Recipe) -> dict[str, str]:
    """Return the choice at each stage that a recipe of one block a stage means."""
    return {f"stage {stage}": str(block) for stage, block in enumerate(recipe.blocks)}


def draw_seed(seed: int, taken: int) -> int:
    """Return the seed of one draw: that of the search, and how many recipes were taken before."""
    return int(np.random.SeedSequence([seed % 2**32, taken]).generate_state(1)[0])
