"""What a recipe costs, from tables, without building it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cache

from torch import nn

from zoo_search.costs.budget import NANOSECONDS, Additive, Cost, Measure, units
from zoo_search.costs.latency import LatencyTable
from zoo_search.costs.memory import MemoryTable
from zoo_search.networks.parents import Models, Parents
from zoo_search.networks.recipe import BlockRef, Head, Recipe, Taps
from zoo_search.networks.stitch import stitch_cost


class CostTable:
    """Costs of the blocks, joints and heads of a zoo.

    Since every block gets the shape that it was traced with, the cost of a recipe is the sum of
    its blocks, its stitches and its head; peak activation memory is the largest of theirs. Only
    parameters that neighbouring blocks of one model share, which are rare, count once. A head that
    reads every block is a sum over them as well: each adds its channels times the classes.

    ``measure`` is what to measure beside counting parameters and MACs; ``latency`` measures that,
    by default of one image at a time on this device. ``taps`` is what the heads of a space's
    recipes read: units of blocks and heads are those of such a space.
    """

    def __init__(
        self,
        zoo: Models,
        num_classes: int,
        measure: Collection[Measure] = (),
        latency: LatencyTable | None = None,
        taps: Taps = "last",
    ) -> None:
        self._parents = dict(Parents(zoo))
        self._graphs = {name: parent.graph for name, parent in self._parents.items()}
        self.num_classes, self.taps = num_classes, taps
        self.measure: frozenset[Measure] = frozenset(measure)
        self.latency = latency or LatencyTable(self._graphs, num_classes)
        self.memory = MemoryTable(self._graphs, num_classes)
        self.licenses = {name: parent.license for name, parent in self._parents.items()}
        self.block = cache(self._block)
        self.joint = cache(self._joint)

    def measuring(self, measure: Collection[Measure]) -> CostTable:
        """Return a table that measures this as well; what was measured is shared."""
        if self.measure.issuperset(measure):
            return self
        return self._like(self.measure.union(measure), self.taps)

    def tapping(self, taps: Taps) -> CostTable:
        """Return the table of a space whose heads read this; what was measured is shared."""
        return self if taps == self.taps else self._like(self.measure, taps)

    def _like(self, measure: Collection[Measure], taps: Taps) -> CostTable:
        table = CostTable(self._parents, self.num_classes, measure, self.latency, taps)
        table.memory = self.memory
        return table

    def cost(self, recipe: Recipe) -> Cost:
        """Return the cost of a recipe: parameters, MACs and memory are the built network's own."""
        runs = recipe.runs
        if recipe.tapped:
            total = sum(map(self.tap, recipe.blocks), start=self._bias)
        else:
            total = self.head(runs[-1], recipe.head)
        for run in runs:
            total += self.block(run)
        for before, after in itertools.pairwise(runs):
            total += self.joint(before, after)
        if "latency" in self.measure:
            total = replace(total, latency=self.latency.recipe(recipe) / NANOSECONDS)
        if "memory" in self.measure:
            total = replace(total, memory=self.memory.peak(recipe))
        return total

    def head(self, last: BlockRef, head: Head) -> Cost:
        """Return parameters and MACs of the head on the last block."""
        graph = self._graphs[last.model]
        if head == "source":
            nodes = graph.nodes[last.start : last.stop]
            below = _parameters(node.module for node in nodes)
            own = _parameters([graph.head])
            return Cost(sum(n for i, n in own.items() if i not in below), graph.head_macs)
        return self.tap(last) + self._bias

    def tap(self, block: BlockRef) -> Cost:
        """Return what a target head's weights on what one block gives cost."""
        weights = self._graphs[block.model].cuts[block.stop].channels * self.num_classes
        return Cost(weights, weights)

    @property
    def _bias(self) -> Cost:
        return Cost(self.num_classes, 0)

    def units_of_block(self, block: BlockRef, what: Additive, *, last: bool) -> int:
        """Return a cost of a block in whole units (of time: ns), of the last with a target head."""
        if block.is_end:
            return 0
        own = self.latency.block(block) if what == "latency" else units(self.block(block), what)
        if self.taps == "blocks":
            latency = what == "latency"
            own += self.latency.head(block, "target") if latency else units(self.tap(block), what)
        return own + self.units_of_head(block, what) if last else own

    def units_of_head(self, last: BlockRef, what: Additive) -> int:
        """Return the same of the target's head on a last block.

        Where it reads every block, each has its share, and left is what comes once: the bias.
        """
        if self.taps == "blocks":
            return 0 if what == "latency" else units(self._bias, what)
        if what == "latency":
            return self.latency.head(last, "target")
        return units(self.head(last, "target"), what)

    def units_of_joint(self, before: BlockRef, after: BlockRef, what: Additive) -> int:
        """Return the same of a joint; below 0 for parameters that both blocks hold.

        That of a block and an end is the head on the block, that of two ends nothing.
        """
        if after.is_end:
            return 0 if before.is_end else self.units_of_head(before, what)
        if what == "latency":
            return self.latency.stitch(before, after)
        return units(self.joint(before, after), what)

    def _block(self, block: BlockRef) -> Cost:
        """Parameters and MACs of a block."""
        nodes = self._graphs[block.model].nodes[block.start : block.stop]
        params = _parameters(node.module for node in nodes)
        return Cost(sum(params.values()), sum(node.macs for node in nodes))

    def _joint(self, before: BlockRef, after: BlockRef) -> Cost:
        """The stitch, or, for neighbours, minus the parameters that both blocks hold."""
        if before.precedes(after):
            # 0, or below it where both blocks hold a parameter: it counts once in the whole.
            whole = self.block(BlockRef(before.model, before.start, after.stop))
            return Cost(whole.params - self.block(before).params - self.block(after).params, 0)
        source, target = self._graphs[before.model], self._graphs[after.model]
        return Cost(*stitch_cost(source.cuts[before.stop], target.cuts[after.start]))


def _parameters(modules: Iterable[nn.Module]) -> dict[int, int]:
    """Return the number of elements of each parameter, each once."""
    return {id(p): p.numel() for module in modules for p in module.parameters()}
