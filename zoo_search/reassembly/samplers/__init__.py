"""Samplers, by name: which recipe to score next.

A sampler learns from what it is told and from nothing else, and its random numbers depend on the
seed and on how many recipes were taken before. So a search that is gone on with, told again of
what was scored, proposes what it would have proposed without the interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from zoo_search.errors import UserError, nearest
from zoo_search.reassembly.cost import Cost
from zoo_search.reassembly.recipe import Recipe
from zoo_search.reassembly.space import Space

__all__ = ["SAMPLERS", "Sampler", "make_sampler"]

SAMPLERS = ("random", "tpe", "nsga2", "cpsat")


class Sampler(Protocol):
    """Proposes feasible recipes, none of them twice."""

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return a feasible recipe that is not among ``taken`` (by key); None if none is left."""
        ...

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn what came of a recipe, proposed or not; a score of None means that it failed."""
        ...


def make_sampler(name: str, space: Space, wanted: int, seed: int) -> Sampler:
    """Return a sampler.

    Args:
        name: One of :data:`SAMPLERS`.
        space: The feasible recipes.
        wanted: How many recipes will be asked for, at most.
        seed: Seed of its random numbers.

    Raises:
        UserError: If the name is unknown, or no recipe is feasible.
    """
    check_sampler(name)
    return _maker(name)(space, wanted, seed)


def check_sampler(name: str) -> None:
    """Check the name of a sampler.

    Raises:
        UserError: If it is unknown: names the nearest one.
    """
    if name not in SAMPLERS:
        raise UserError(
            f"Unknown sampler '{name}' in 'search.sampler'.{nearest(name, SAMPLERS)} "
            f"Allowed: {', '.join(SAMPLERS)}."
        )


def _maker(name: str) -> Callable[[Space, int, int], Sampler]:
    """Return the class of a sampler; Optuna and OR-Tools are imported only if it needs them."""
    if name == "tpe":
        from zoo_search.reassembly.samplers.tpe import TpeSampler

        return TpeSampler
    if name == "nsga2":
        from zoo_search.reassembly.samplers.nsga2 import Nsga2Sampler

        return Nsga2Sampler
    if name == "cpsat":
        from zoo_search.reassembly.samplers.cpsat import CpSatSampler

        return CpSatSampler
    from zoo_search.reassembly.samplers.uniform import UniformSampler

    return UniformSampler
