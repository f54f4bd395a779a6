"""The recipes that a partition and a budget allow (DeRy Eqs. 8-11).

One block a stage and a set, the cost in the budget. :mod:`zoo_search.reassembly.program` is the
integer program that finds, lists and optimises; :mod:`zoo_search.reassembly.counting` counts and
draws.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from zoo_search.errors import UserError
from zoo_search.reassembly import optimum
from zoo_search.reassembly.budget import Budget, Cost, What
from zoo_search.reassembly.cost import CostTable
from zoo_search.reassembly.counting import Counts
from zoo_search.reassembly.infeasible import no_licence, no_recipe
from zoo_search.reassembly.memory import Bounds
from zoo_search.reassembly.program import Program
from zoo_search.reassembly.recipe import BlockRef, Recipe

__all__ = ["PartitionLike", "Space", "Tally"]

_SMALL = 20_000  # recipes that are listed in full
_TRIES = 200  # draws a wanted sample before the integer program takes over


class PartitionLike(Protocol):
    """What the space needs to know of a partition."""

    @property
    def k(self) -> int:
        """Number of stages and of sets."""
        ...

    @property
    def blocks(self) -> Sequence[Any]:
        """Blocks, each with ``model``, ``start``, ``stop``, ``stage`` and ``set``."""
        ...


@dataclass(frozen=True)
class Tally:
    """How many recipes are feasible: exactly, or at least so many."""

    number: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.number:,}" if self.exact else f"at least {self.number:,}"


class Space:
    """The feasible recipes with a target head.

    Args:
        partition: Its blocks, each with a stage and a set.
        costs: Cost table of the zoo; what the budget limits beyond parameters and MACs is measured.
        budget: Limits.

    Attributes:
        stages: The blocks to choose from at each stage: those whose licence the budget allows.
        sets: The set of each of these blocks.
        left_out: Models that the budget's licences leave out, with their licence.

    Raises:
        UserError: If the budget's licences leave out every model.
    """

    def __init__(self, partition: PartitionLike, costs: CostTable, budget: Budget) -> None:
        self.k = partition.k
        self.costs = costs.measuring(budget.measures)
        self.budget = budget
        self.stages: list[list[BlockRef]] = [[] for _ in range(self.k)]
        self.sets: dict[BlockRef, int] = {}
        models = dict.fromkeys(block.model for block in partition.blocks)
        licences = {name: costs.licenses.get(name) for name in models}
        self.left_out = {n: own for n, own in licences.items() if not budget.licensed(own)}
        if models and len(self.left_out) == len(models):
            raise no_licence(self.left_out, budget.licenses or ())
        for block in partition.blocks:
            if block.model not in self.left_out:
                ref = BlockRef(block.model, block.start, block.stop)
                self.stages[block.stage].append(ref)
                self.sets[ref] = block.set

    def recipe(self, blocks: Sequence[BlockRef]) -> Recipe:
        """Return the recipe of one block a stage."""
        return Recipe(tuple(blocks), "target")

    def cost(self, recipe: Recipe) -> Cost:
        """Return the cost of a recipe."""
        return self.costs.cost(recipe)

    def admits(self, recipe: Recipe) -> bool:
        """Return whether a recipe of this space's blocks is feasible."""
        return self._one_per_set(recipe.blocks) and self.budget.admits(self.cost(recipe))

    @cached_property
    def zoo(self) -> list[Recipe]:
        """The zoo models within the budget, also where two of their blocks share a set."""
        models = dict.fromkeys(block.model for stage in self.stages for block in stage)
        recipes = [
            self.recipe([block for stage in self.stages for block in stage if block.model == name])
            for name in models
        ]
        whole = [r for r in recipes if len(r.blocks) == self.k and len(r.runs) == 1]
        return [r for r in whole if self.budget.admits(self.cost(r))]

    @cached_property
    def bounds(self) -> Bounds:
        """The least peak activation memory of blocks and joints."""
        return self.costs.memory.bounds(self.stages)

    def count(self, limit: int | None = None) -> int:
        """Return how many recipes are feasible, at most ``limit`` (if given)."""
        return self.tally(limit).number

    def tally(self, limit: int | None = 100_000) -> Tally:
        """Count the feasible recipes, or stop at ``limit`` and say that there are at least so many.

        Without limits on costs the number is exact and nothing is listed. Otherwise the integer
        program lists the recipes up to the limit.
        """
        if self._counts.exact or self._counts.total == 0:
            total = self._counts.total
            return Tally(
                total if limit is None else min(total, limit), limit is None or total <= limit
            )
        found = len(self.enumerate(None if limit is None else limit + 1))
        if limit is not None and found > limit:
            return Tally(limit, False)
        return Tally(found, True)

    def enumerate(self, limit: int | None = None) -> list[Recipe]:
        """Return the feasible recipes, at most ``limit``, in a fixed order."""
        return [self.recipe(blocks) for blocks in sorted(Program(self, self.budget).all(limit))]

    def sample(self, n: int, seed: int = 0) -> list[Recipe]:
        """Draw ``n`` different feasible recipes uniformly, or all if there are fewer.

        Recipes are drawn uniformly from those of one block a stage and a set whose costs, rounded
        down, are within the upper limits (:class:`zoo_search.reassembly.counting.Counts`), and
        those that are not feasible are thrown away, which is uniform over the feasible ones. Where
        there are few, they are listed instead. Only where the limits leave too many to list and
        too few to hit, the integer program solves random objectives: near to uniform.

        Raises:
            UserError: If no recipe is feasible.
        """
        rng = random.Random(seed)
        if self._counts.total > _SMALL:
            drawn = self._draw(n, rng)
            if len(drawn) == n:
                return drawn
        if len(self._listing) <= _SMALL:
            if not self._listing:
                raise self.infeasible()
            return rng.sample(self._listing, min(n, len(self._listing)))
        return self._draw_objectives(n, rng)

    def cheapest(self, by: What = "macs", *, budget: bool = True) -> Recipe:
        """Return the cheapest recipe, within the budget or (``budget=False``) without one.

        Raises:
            UserError: If there is none.
        """
        recipe = optimum.least(self, by, self.budget if budget else Budget())
        if recipe is None:
            raise self.infeasible()
        return recipe

    def nearest(self) -> Recipe:
        """Return the recipe that breaks the budget least: a feasible one if there is one.

        Raises:
            UserError: If the partition allows no recipe at all.
        """
        recipe = optimum.solve(self, Budget(), lambda p: p.excess(self.budget))
        if recipe is None:
            raise no_recipe(self.k, self.left_out)
        return recipe

    def nearest_to(self, recipe: Recipe) -> Recipe:
        """Return the feasible recipe that changes the fewest blocks of ``recipe``.

        Among equals, the one of the fewest MACs. ``recipe`` has one block a stage, of any zoo.

        Raises:
            ValueError: If ``recipe`` has not one block a stage.
            UserError: If no recipe is feasible.
        """
        found = optimum.nearest_to(self, recipe)
        if found is None:
            raise self.infeasible()
        return found

    def infeasible(self) -> UserError:
        """Return the error that says why nothing is feasible and what would be."""
        return optimum.infeasible(self)

    @cached_property
    def _counts(self) -> Counts:
        bounds = self.bounds if self.budget.max_memory is not None else None
        return Counts(self.stages, self.sets, self.costs, self.budget, bounds)

    @cached_property
    def _listing(self) -> list[Recipe]:
        """The feasible recipes; one more than ``_SMALL`` stands for too many."""
        if self._counts.total > _SMALL:
            return self.enumerate(_SMALL + 1)
        recipes = [self.recipe(blocks) for blocks in sorted(self._counts.all())]
        return [recipe for recipe in recipes if self._within(recipe)]

    def _draw(self, n: int, rng: random.Random) -> list[Recipe]:
        """Throw away what is not feasible, or was drawn before."""
        drawn: dict[str, Recipe] = {}
        for _ in range(_TRIES * n):
            if len(drawn) == n:
                break
            recipe = self.recipe(self._counts.draw(rng))
            if recipe.key not in drawn and self._within(recipe):
                drawn[recipe.key] = recipe
        return list(drawn.values())

    def _draw_objectives(self, n: int, rng: random.Random) -> list[Recipe]:
        program = Program(self, self.budget)
        drawn: dict[str, Recipe] = {}
        for _ in range(4 * n):
            if len(drawn) == n:
                break
            noise = {block: rng.randrange(1_000_000) for block in self.sets}
            blocks = program.minimise(program.weighted(noise))
            assert blocks is not None
            recipe = self.recipe(blocks)
            drawn.setdefault(recipe.key, recipe)
        return list(drawn.values())

    def _within(self, recipe: Recipe) -> bool:
        return self.budget.admits(self.cost(recipe))

    def _one_per_set(self, blocks: Sequence[BlockRef]) -> bool:
        return len({self.sets[block] for block in blocks}) == self.k == len(blocks)
