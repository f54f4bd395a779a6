"""What there is to choose from: the blocks of a partition, and what a choice of them may cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache, cached_property

from zoo_search.core.errors import UserError, nearest
from zoo_search.costs.budget import Budget, Cost, What
from zoo_search.costs.table import CostTable
from zoo_search.networks.recipe import BlockRef, Part, Recipe
from zoo_search.partitions.result import Partition


class Choices:
    """The blocks at each stage, the set of each block, and the limits (DeRy Eqs. 8-11).

    Raises:
        UserError: If the budget's licences leave out every model.
    """

    def __init__(self, partition: Partition, costs: CostTable, budget: Budget) -> None:
        self.k, self.budget = partition.k, budget
        self.costs = costs.measuring(budget.measures)
        # Blocks whose licence the budget allows, and the set of each of them.
        self.stages: list[list[BlockRef]] = [[] for _ in range(self.k)]
        self.sets: dict[BlockRef, int] = {}
        # One cost of blocks and joints in whole units; of memory, their least peaks.
        self.units = cache(self._units)
        # Models that the budget's licences leave out, with their licence.
        models = dict.fromkeys(block.model for block in partition.blocks)
        licenses = {name: costs.licenses.get(name) for name in models}
        self.left_out = {n: own for n, own in licenses.items() if not budget.licensed(own)}
        if models and len(self.left_out) == len(models):
            raise _no_license(self.left_out, budget.licenses or ())
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

    def within(self, recipe: Recipe) -> bool:
        """Return whether a recipe keeps the budget."""
        return self.budget.admits(self.cost(recipe))

    def admits(self, recipe: Recipe) -> bool:
        """Return whether a recipe of these blocks is feasible: one a stage and a set, in budget."""
        sets = {self.sets[block] for block in recipe.blocks}
        return len(sets) == self.k == len(recipe.blocks) and self.within(recipe)

    @cached_property
    def joints(self) -> list[list[tuple[BlockRef, BlockRef]]]:
        """The pairs of blocks that may stand at each joint."""
        return [list(itertools.product(*two)) for two in itertools.pairwise(self.stages)]

    def _units(self, what: What) -> dict[Part, int]:
        if what == "memory":
            return self.costs.memory.bounds(self.stages)
        units: dict[Part, int] = {}
        for stage, blocks in enumerate(self.stages):
            for block in blocks:
                last = stage == self.k - 1
                units[block] = self.costs.units_of_block(block, what, last=last)
        for pair in itertools.chain(*self.joints):
            units[pair] = self.costs.units_of_joint(*pair, what)
        return units


def _no_license(left_out: Mapping[str, str | None], allowed: Sequence[str]) -> UserError:
    """Return the error for licences that leave out every model."""
    known = sorted({name for name in left_out.values() if name is not None})
    hints = "".join(dict.fromkeys(nearest(name.casefold(), known) for name in allowed))
    return UserError(
        f"'budget.licenses' allows {', '.join(allowed) or 'nothing'}, which leaves no model of the "
        f"zoo: {left_out_in_words(left_out)}.{hints} Allow more licences, or state that of a model "
        "under 'license:' in its zoo entry."
    )


def left_out_in_words(left_out: Mapping[str, str | None]) -> str:
    """Return models and their licences as ``a (gpl-3.0), b (licence not known)``."""
    return ", ".join(f"{m} ({own or 'licence not known'})" for m, own in left_out.items())
