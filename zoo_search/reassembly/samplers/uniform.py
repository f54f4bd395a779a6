"""``random``: the feasible recipes in random order."""

from __future__ import annotations

from collections.abc import Mapping

from zoo_search.reassembly.cost import Cost
from zoo_search.reassembly.recipe import Recipe
from zoo_search.reassembly.space import Space

__all__ = ["UniformSampler"]


class UniformSampler:
    """Gives a uniform sample of the feasible recipes, in its order; the other samplers start so.

    Args:
        space: The feasible recipes.
        wanted: Size of the sample.
        seed: Seed of the sample.

    Raises:
        UserError: If no recipe is feasible.
    """

    def __init__(self, space: Space, wanted: int, seed: int) -> None:
        self._sample = space.sample(wanted, seed)

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the next recipe of the sample that is not taken."""
        return next((r for r in self._sample if r.key not in taken), None)

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn nothing."""
