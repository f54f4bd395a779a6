"""The recipes that a partition and a budget allow, by integer programming (DeRy Eqs. 8-11).

One block a stage and a set, the cost in the budget; :mod:`zoo_search.reassembly.program` is the
integer program.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Literal, Protocol

from zoo_search.errors import UserError
from zoo_search.reassembly.cost import Budget, Cost, CostTable
from zoo_search.reassembly.program import Program
from zoo_search.reassembly.recipe import BlockRef, Recipe

__all__ = ["PartitionLike", "Space"]

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


class Space:
    """The feasible recipes with a target head.

    Args:
        partition: Its blocks, each with a stage and a set.
        costs: Cost table of the zoo.
        budget: Limits.
    """

    def __init__(self, partition: PartitionLike, costs: CostTable, budget: Budget) -> None:
        self.k = partition.k
        self.costs = costs
        self.budget = budget
        self.stages: list[list[BlockRef]] = [[] for _ in range(self.k)]
        self.sets: dict[BlockRef, int] = {}
        for block in partition.blocks:
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
        """Return whether a recipe of this partition's blocks is feasible."""
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

    def count(self, limit: int | None = None) -> int:
        """Return how many recipes are feasible, at most ``limit`` (if given)."""
        return len(self.enumerate(limit))

    def enumerate(self, limit: int | None = None) -> list[Recipe]:
        """Return the feasible recipes, at most ``limit``, in a fixed order."""
        found = Program(self, self.budget).all(limit)
        recipes = [self.recipe(blocks) for blocks in sorted(found)]
        return [r for r in recipes if self.budget.admits(self.cost(r))]

    def sample(self, n: int, seed: int = 0) -> list[Recipe]:
        """Draw ``n`` different feasible recipes uniformly, or all if there are fewer.

        Small spaces are listed. In large ones, a block is drawn uniformly at each stage and draws
        that are not feasible are thrown away, which is uniform over the feasible ones, too. Where
        that gives too few, the feasible recipes are listed after all; if those are too many, the
        integer program solves random objectives, which is only near to uniform.

        Raises:
            UserError: If no recipe is feasible.
        """
        rng = random.Random(seed)
        if math.prod(len(stage) for stage in self.stages) > _SMALL:
            drawn = self._draw(n, rng)
            if len(drawn) == n:
                return drawn
        if len(self._listing) <= _SMALL:
            if not self._listing:
                raise self.infeasible()
            return rng.sample(self._listing, min(n, len(self._listing)))
        return self._draw_objectives(n, rng)

    def _draw(self, n: int, rng: random.Random) -> list[Recipe]:
        """Throw away what is not feasible, or was drawn before."""
        drawn: dict[str, Recipe] = {}
        for _ in range(_TRIES * n):
            if len(drawn) == n:
                break
            recipe = self.recipe([rng.choice(stage) for stage in self.stages])
            if recipe.key not in drawn and self.admits(recipe):
                drawn[recipe.key] = recipe
        return list(drawn.values())

    def _draw_objectives(self, n: int, rng: random.Random) -> list[Recipe]:
        drawn: dict[str, Recipe] = {}
        for _ in range(4 * n):
            if len(drawn) == n:
                break
            noise = {block: rng.randrange(1_000_000) for block in self.sets}
            found = self._solve(self.budget, partial(_weighted, noise))
            assert found is not None
            drawn.setdefault(found.key, found)
        return list(drawn.values())

    def cheapest(self, by: Literal["params", "macs"] = "macs", *, budget: bool = True) -> Recipe:
        """Return the cheapest recipe, within the budget or (``budget=False``) without one.

        Raises:
            UserError: If there is none.
        """
        limits = self.budget if budget else Budget()
        recipe = self._solve(limits, lambda p: p.total(by))
        if recipe is None:
            raise self.infeasible()
        return recipe

    def nearest(self) -> Recipe:
        """Return the recipe that breaks the budget least: a feasible one if there is one.

        Raises:
            UserError: If the partition allows no recipe at all.
        """
        recipe = self._solve(Budget(), lambda p: p.excess(self.budget))
        if recipe is None:
            raise self._no_recipe()
        return recipe

    def infeasible(self) -> UserError:
        """Return the error that says why nothing is feasible and what would be."""
        if self._solve(Budget(), lambda p: p.total("macs")) is None:
            return self._no_recipe()
        parts = [f"No recipe is within the budget ({self.budget})."]
        small, few = self.cheapest("macs", budget=False), self.cheapest("params", budget=False)
        parts.append(f"The cheapest recipe is {_show(small, self.cost(small))}")
        if few.key != small.key:
            parts[-1] += f"; the one with the fewest parameters is {_show(few, self.cost(few))}"
        near = self.nearest()
        if near.key not in (small.key, few.key):
            parts[-1] += f"; the one nearest to the budget is {_show(near, self.cost(near))}"
        parts[-1] += "."
        parts.append("Widen 'budget:' in the run file (MACs are multiply-adds for one image).")
        return UserError(" ".join(parts))

    def _no_recipe(self) -> UserError:
        return UserError(
            "The partition allows no recipe at all: no choice of one block for each of the "
            f"{self.k} stages takes one block from each of the {self.k} sets. Partition again "
            "with another k, eps or seed, or with 'one_per_set: true', which always allows some."
        )

    @cached_property
    def _listing(self) -> list[Recipe]:
        """The feasible recipes; one more than ``_SMALL`` stands for too many."""
        return self.enumerate(_SMALL + 1)

    def _one_per_set(self, blocks: Sequence[BlockRef]) -> bool:
        return len({self.sets[block] for block in blocks}) == self.k == len(blocks)

    def _solve(self, budget: Budget, aim: Callable[[Program], Any]) -> Recipe | None:
        program = Program(self, budget)
        blocks = program.minimise(aim(program))
        return None if blocks is None else self.recipe(blocks)


def _weighted(weights: dict[BlockRef, int], program: Program) -> Any:
    return program.weighted(weights)


def _show(recipe: Recipe, cost: Cost) -> str:
    return f"{recipe}: {cost}"
