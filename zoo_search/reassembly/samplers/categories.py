"""A recipe as one categorical choice a stage, as Optuna sees it.

Where recipes may end early, ``end`` is one more choice; what stands behind the first counts for
nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from optuna.distributions import CategoricalDistribution

from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.space.choices import Choices, Scope


def distributions(choices: Choices) -> dict[str, CategoricalDistribution]:
    """Return Optuna's categorical distribution of each stage's blocks, by name of the stage."""
    return {
        f"stage {stage}": CategoricalDistribution([str(block) for block in blocks])
        for stage, blocks in enumerate(choices.stages)
    }


def recipe_of(choices: Choices, params: Mapping[str, object]) -> Recipe:
    """Return the recipe that a choice at each stage means."""
    chosen = (
        next(block for block in options if str(block) == params[f"stage {stage}"])
        for stage, options in enumerate(choices.stages)
    )
    return choices.recipe(list(itertools.takewhile(lambda block: not block.is_end, chosen)))


def params_of(choices: Choices, recipe: Recipe) -> dict[str, str]:
    """Return the choice at each stage that a recipe of these choices means."""
    blocks = choices.filled(recipe.blocks)
    return {f"stage {stage}": str(block) for stage, block in enumerate(blocks)}


def choices_of(scope: Scope, recipe: Recipe) -> dict[str, tuple[str, CategoricalDistribution]]:
    """Return the choices that a recipe means, by name, each with what there was to choose from.

    Of several partitions the first one that holds it is a choice of its own, by its number of
    stages, and gives the names of the others.
    """
    if isinstance(scope, Choices):
        among = distributions(scope)
        return {name: (choice, among[name]) for name, choice in params_of(scope, recipe).items()}
    names = [f"partition {place}, k {part.k}" for place, part in enumerate(scope.parts)]
    place = part_of(scope, recipe)
    inside = choices_of(scope.parts[place], recipe)
    return {
        "partition": (names[place], CategoricalDistribution(names)),
        **{f"{names[place]}, {name}": choice for name, choice in inside.items()},
    }


def part_of(scope: Scope, recipe: Recipe) -> int:
    """Return the index of the first partition that has these very blocks, one a stage."""
    return next(
        index
        for index, part in enumerate(scope.parts)
        if (len(recipe.blocks) == part.k or part.early)
        and len(recipe.blocks) <= part.k
        and all(map(list.__contains__, part.stages, recipe.blocks))
    )


def draw_seed(seed: int, taken: int) -> int:
    """Return the seed of one draw: that of the search, and how many recipes were taken before."""
    return int(np.random.SeedSequence([seed % 2**32, taken]).generate_state(1)[0])
