"""The nearest feasible recipe that is not taken, by the integer program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoo_search.networks.recipe import BlockRef, Part, Recipe
from zoo_search.reassembly.space.program import Program
from zoo_search.reassembly.space.space import Space

_CHANGE = 1_000_000  # weight of one changed stage; ties between equally near recipes are drawn


class Repair:
    """Mends recipes that break the budget, take two blocks of one set, or were taken before."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._program = Program(space, space.budget)

    def free(self, recipe: Recipe, taken: Mapping[str, Recipe]) -> bool:
        """Return whether a recipe needs no repair."""
        return recipe.key not in taken and self._space.admits(recipe)

    def nearest(
        self, blocks: Sequence[BlockRef], taken: Mapping[str, Recipe], seed: int
    ) -> Recipe | None:
        """Return a feasible recipe that differs from ``blocks`` (one a stage) at the fewest stages.

        Fewer blocks are those of a recipe that ends early.
        None if every feasible one is ``taken``; ``seed`` draws between those equally near.
        """
        rng, wanted = np.random.default_rng(seed), self._space.filled(blocks)
        most = _CHANGE // (self._space.k + 1)
        weights: dict[Part, int] = {
            block: int(rng.integers(most)) + (0 if block == own else _CHANGE)
            for options, own in zip(self._space.stages, wanted, strict=True)
            for block in options
        }
        return self._program.lightest(weights, taken)
