"""Any sampler over several partitions: it has one of its kind for each, and draws whose turn it is.

A choice of a block a stage means nothing without the partition that the stages are those of. So
the partition is drawn first, in proportion to how many of the good scores lie there, as the
tree-structured Parzen estimator draws a category (Bergstra et al., 2011).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from zoo_search.costs.budget import Cost
from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.samplers.base import LearningSampler, Sampler, UniformSampler
from zoo_search.reassembly.samplers.categories import draw_seed
from zoo_search.reassembly.space.space import Space, SpaceUnion

_GOOD = 0.2  # share of the scores that count as good


class SpreadSampler:
    """Samplers of one class, one for each partition that has a feasible recipe.

    Until ``startup`` scores of the class are known it draws uniformly from all networks that the
    partitions allow together; a class that learns nothing draws so to the end.

    Raises:
        UserError: If no recipe of any partition is feasible.
    """

    def __init__(
        self, make: Callable[[Space, int, int], Sampler], space: SpaceUnion, wanted: int, seed: int
    ) -> None:
        self._uniform, self._seed = UniformSampler(space, wanted, seed), seed
        self._parts = [part for part in space.spaces if part.enumerate(1)]
        self._startup = 0
        self._samplers: list[Sampler] = []
        if make is not UniformSampler:
            self._samplers = [make(part, wanted, seed) for part in self._parts]
            learning = [s.startup for s in self._samplers if isinstance(s, LearningSampler)]
            self._startup = max(learning, default=0)
        self._told: list[tuple[float, frozenset[int]]] = []

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return a feasible recipe that is not among ``taken`` (by key); None if none is left."""
        uniform = self._uniform.next(taken)
        if not self._samplers or (len(self._told) < self._startup and uniform is not None):
            return uniform
        shares = self._shares()
        rng = np.random.default_rng(draw_seed(self._seed, len(taken)))
        order = rng.choice(len(shares), len(shares), replace=False, p=shares)
        for place in order:  # the others, where nothing is left in the first
            found = self._samplers[int(place)].next(taken)
            if found is not None:
                return found
        return uniform

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn what came of a recipe, in every partition that has it."""
        holders = set()
        for place, part in enumerate(self._parts):
            for blocks in part.ways_of(recipe)[:1]:
                holders.add(place)
                if self._samplers:
                    self._samplers[place].tell(part.recipe(blocks), score, cost)
        if score is not None:
            self._told.append((score, frozenset(holders)))

    def _shares(self) -> list[float]:
        """Return how likely each partition is to be next."""
        ranked = sorted(self._told, key=lambda told: -told[0])
        good = [1] * len(self._parts)  # one beforehand, so that none is given up
        for _, holders in ranked[: max(1, round(_GOOD * len(ranked)))]:
            for place in holders:
                good[place] += 1
        return [number / sum(good) for number in good]
