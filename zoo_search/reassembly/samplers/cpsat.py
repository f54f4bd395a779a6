"""``cpsat``: a surrogate fitted to the scores so far, maximised by the integer program."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from zoo_search.reassembly.cost import Cost
from zoo_search.reassembly.program import Program
from zoo_search.reassembly.recipe import Recipe
from zoo_search.reassembly.samplers.choices import EFFORT, draw_seed
from zoo_search.reassembly.samplers.surrogate import Penalty, Surrogate, Weights
from zoo_search.reassembly.samplers.uniform import UniformSampler
from zoo_search.reassembly.space import Space

__all__ = ["CpSatSampler"]

_STARTUP = 10
_SCALE = 1_000_000  # weights are whole numbers in the program
_GROWTH = 1.1  # the penalty is chosen anew when there are so many times the scores


class CpSatSampler:
    """Additive-plus-pairwise surrogate and integer program.

    After 10 recipes that were drawn uniformly, each proposal maximises the surrogate
    (:class:`.surrogate.Surrogate`) under the budget, Eqs. 9-11 and a no-good cut for every recipe
    taken. Every other proposal takes the surrogate's mean, the others a draw from its posterior
    (Thompson sampling), so that workers who ask at the same time get different recipes and blocks
    that were hardly tried are tried.

    Args:
        space: The feasible recipes.
        wanted: How many recipes will be asked for, at most.
        seed: Seed of its random numbers.

    Raises:
        UserError: If no recipe is feasible.
    """

    def __init__(self, space: Space, wanted: int, seed: int) -> None:
        self._space, self._seed = space, seed
        self._uniform = UniformSampler(space, wanted, seed)
        self._program = Program(space, space.budget)
        self._told: list[tuple[Recipe, float]] = []
        self._penalty: Penalty | None = None
        self._chosen_at = 0
        self._surrogate: Surrogate | None = None

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the next recipe."""
        if len(self._told) < _STARTUP and (first := self._uniform.next(taken)) is not None:
            return first
        found = None
        if self._told:
            surrogate = self._fitted()
            rng = np.random.default_rng(draw_seed(self._seed, len(taken)))
            weights = surrogate.mean() if len(taken) % 2 else surrogate.draw(rng)
            found = self._best(weights, taken)
        return self._uniform.next(taken) if found is None else found

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn a score."""
        if score is not None:
            self._told.append((recipe, score))
            self._surrogate = None

    def _fitted(self) -> Surrogate:
        """Return the surrogate of all that was told."""
        if self._surrogate is None:
            self._surrogate = self._fit()
        return self._surrogate

    def _fit(self) -> Surrogate:
        recipes = [recipe.blocks for recipe, _ in self._told]
        scores = [score for _, score in self._told]
        first = _milestone(len(scores))
        if self._penalty is None or first != self._chosen_at:
            found = Surrogate(self._space.stages, recipes[:first], scores[:first])
            self._penalty, self._chosen_at = found.penalty, first
        return Surrogate(self._space.stages, recipes, scores, self._penalty)

    def _best(self, weights: Weights, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the recipe of greatest weight that is not taken."""
        largest = max(map(abs, (*weights.blocks.values(), *weights.pairs.values())))
        unit = _SCALE / (largest or 1.0)
        blocks = {block: -round(unit * weight) for block, weight in weights.blocks.items()}
        pairs = {pair: -round(unit * weight) for pair, weight in weights.pairs.items()}
        self._program.forbid_all(taken)
        found = self._program.minimise(self._program.weighted(blocks, pairs), EFFORT)
        return None if found is None else self._space.recipe(found)


def _milestone(count: int) -> int:
    """Return the number of scores, at most ``count``, that the penalty is chosen from.

    It depends on nothing else, so that a search that is gone on with takes the same penalties.
    """
    reached = min(count, _STARTUP)
    while (further := math.ceil(reached * _GROWTH)) <= count:
        reached = further
    return reached
