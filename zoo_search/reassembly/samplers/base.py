"""What a sampler is, the uniform one (``random``), and what those that learn have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol

from zoo_search.costs.budget import Cost
from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.space.space import Feasible, Space


class Sampler(Protocol):
    """Proposes feasible recipes, none of them twice."""

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return a feasible recipe that is not among ``taken`` (by key); None if none is left."""
        ...

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn what came of a recipe, proposed or not; a score of None means that it failed."""
        ...


class UniformSampler:
    """Gives a uniform sample of the feasible recipes, in its order; the other samplers start so.

    The random search of DeRy section 3.3, which section 4 ("Implementation details") gives 500
    candidates; in a run file ``search: {sampler: random, trials: 500}``. The paper does not say how
    its candidates are drawn; here every feasible recipe is as likely as any other, none comes
    twice, and the models of the zoo within the budget are scored on top. What differs is DeRy's own
    code (``zeroshot_reassembly.py``): it does not draw 500 recipes, but in each of 20 rounds puts
    all blocks into random order and lets each take the place of those of its stage and set where
    that raises the score; and it has no transformer before a CNN.

    Raises:
        UserError: If no recipe is feasible.
    """

    def __init__(self, space: Feasible, wanted: int, seed: int) -> None:
        self._sample = space.sample(wanted, seed)

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the next recipe of the sample that is not taken."""
        return next((r for r in self._sample if r.key not in taken), None)

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn nothing."""


class LearningSampler(ABC):
    """Draws uniformly until it knows ``startup`` scores, and then makes use of them.

    Made from the feasible recipes, how many will be asked for at most, and a seed; ``told`` counts
    the scores that it knows.
    """

    startup: ClassVar[int]

    def __init__(self, space: Space, wanted: int, seed: int) -> None:
        self.space, self.seed, self.told = space, seed, 0
        self.uniform = UniformSampler(space, wanted, seed)

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the next recipe."""
        if self.told < self.startup and (first := self.uniform.next(taken)) is not None:
            return first
        return self.propose(taken)

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn what came of a recipe."""
        self.told += score is not None
        self.learn(recipe, score, cost)

    @abstractmethod
    def propose(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the next recipe by what was learned; None if none is left."""

    @abstractmethod
    def learn(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn what came of a recipe; a score of None means that it failed."""
