"""``cpsat``: a surrogate fitted to the scores so far, maximised by the integer program."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from zoo_search.costs.budget import Cost
from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.samplers.base import LearningSampler
from zoo_search.reassembly.samplers.categories import draw_seed
from zoo_search.reassembly.samplers.surrogate import Penalty, Surrogate
from zoo_search.reassembly.space.program import Program
from zoo_search.reassembly.space.space import Space

_SCALE = 1_000_000  # weights are whole numbers in the program
_GROWTH = 1.1  # the penalty is chosen anew when there are so many times the scores


class CpSatSampler(LearningSampler):
    """Additive-plus-pairwise surrogate and integer program.

    After 10 recipes that were drawn uniformly, each proposal maximises the surrogate
    (:class:`.surrogate.Surrogate`) under the budget, Eqs. 9-11 and a no-good cut for every recipe
    taken. Every other proposal takes the surrogate's mean, the others a draw from its posterior
    (Thompson sampling), so that workers who ask at the same time get different recipes and blocks
    that were hardly tried are tried.
    """

    startup = 10

    def __init__(self, space: Space, wanted: int, seed: int) -> None:
        super().__init__(space, wanted, seed)
        self._program = Program(space, space.budget)
        self._scores: list[tuple[Recipe, float]] = []
        self._penalty: Penalty | None = None
        self._chosen_at = 0
        self._surrogate: Surrogate | None = None

    def propose(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the best by the surrogate."""
        found = None
        if self._scores:
            surrogate = self._fitted()
            rng = np.random.default_rng(draw_seed(self.seed, len(taken)))
            weights = surrogate.mean() if len(taken) % 2 else surrogate.draw(rng)
            unit = _SCALE / (max(map(abs, weights.values())) or 1.0)
            costs = {part: -round(unit * weight) for part, weight in weights.items()}
            found = self._program.lightest(costs, taken)
        return self.uniform.next(taken) if found is None else found

    def learn(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn a score."""
        if score is not None:
            self._scores.append((recipe, score))
            self._surrogate = None

    def _fitted(self) -> Surrogate:
        """Return the surrogate of all that was told."""
        if self._surrogate is not None:
            return self._surrogate
        recipes = [self.space.filled(recipe.blocks) for recipe, _ in self._scores]
        scores = [score for _, score in self._scores]
        first = _milestone(len(scores))
        if self._penalty is None or first != self._chosen_at:
            found = Surrogate(self.space.stages, recipes[:first], scores[:first])
            self._penalty, self._chosen_at = found.penalty, first
        self._surrogate = Surrogate(self.space.stages, recipes, scores, self._penalty)
        return self._surrogate


def _milestone(count: int) -> int:
    """Return the number of scores, at most ``count``, that the penalty is chosen from.

    It depends on nothing else, so that a search that is gone on with takes the same penalties.
    """
    reached = min(count, CpSatSampler.startup)
    while (further := math.ceil(reached * _GROWTH)) <= count:
        reached = further
    return reached
