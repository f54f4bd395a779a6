"""The nearest feasible recipe that is not taken, by the integer program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoo_search.reassembly.program import Program
from zoo_search.reassembly.recipe import BlockRef, Recipe
from zoo_search.reassembly.samplers.choices import EFFORT
from zoo_search.reassembly.space import Space

__all__ = ["Repair"]

_CHANGE = 1_000_000  # weight of one changed stage; ties between equally near recipes are drawn


class Repair:
    """Mends recipes that break the budget, take two blocks of one set, or were taken before.

    Args:
        space: The feasible recipes.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._program = Program(space, space.budget)

    def free(self, recipe: Recipe, taken: Mapping[str, Recipe]) -> bool:
        """Return whether a recipe needs no repair."""
        return recipe.key not in taken and self._space.admits(recipe)

    def nearest(
        self, blocks: Sequence[BlockRef], taken: Mapping[str, Recipe], seed: int
    ) -> Recipe | None:
        """Return a feasible recipe that differs from ``blocks`` at the fewest stages.

        Args:
            blocks: One block a stage.
            taken: Recipes that are not to be given, by key.
            seed: Draws between recipes that are equally near.

        Returns:
            The recipe; None if every feasible one is taken.
        """
        rng = np.random.default_rng(seed)
        most = _CHANGE // (self._space.k + 1)
        weights = {
            block: int(rng.integers(most)) + (0 if block == wanted else _CHANGE)
            for options, wanted in zip(self._space.stages, blocks, strict=True)
            for block in options
        }
        self._program.forbid_all(taken)
        found = self._program.minimise(self._program.weighted(weights), EFFORT)
        return None if found is None else self._space.recipe(found)
