"""A recipe as one categorical choice a stage, as Optuna sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo_search.reassembly.recipe import BlockRef, Recipe
from zoo_search.reassembly.space import Space

__all__ = ["EFFORT", "distributions", "draw_seed", "params_of", "recipe_of"]

EFFORT = 1.0
"""Limit on one run of the integer program in its deterministic seconds, equal on any machine."""


def distributions(space: Space) -> dict[str, Any]:
    """Return Optuna's categorical distribution of each stage's blocks, by name of the stage."""
    from optuna.distributions import CategoricalDistribution

    return {
        f"stage {stage}": CategoricalDistribution([str(block) for block in blocks])
        for stage, blocks in enumerate(space.stages)
    }


def recipe_of(space: Space, params: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a choice at each stage means."""
    blocks: list[BlockRef] = []
    for stage, options in enumerate(space.stages):
        label = params[f"stage {stage}"]
        blocks.append(next(block for block in options if str(block) == label))
    return space.recipe(blocks)


def params_of(recipe: Recipe) -> dict[str, str]:
    """Return the choice at each stage that a recipe of one block a stage means."""
    return {f"stage {stage}": str(block) for stage, block in enumerate(recipe.blocks)}


def draw_seed(seed: int, taken: int) -> int:
    """Return the seed of one draw: that of the search, and how many recipes were taken before."""
    return int(np.random.SeedSequence([seed % 2**32, taken]).generate_state(1)[0])
