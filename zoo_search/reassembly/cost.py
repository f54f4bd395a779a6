"""What a recipe costs, from tables, without building it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache

from torch import nn

from zoo_search.linegraph.graph import LineGraph
from zoo_search.reassembly.budget import NANOSECONDS, Budget, Cost, Measure, units
from zoo_search.reassembly.latency import LatencyTable
from zoo_search.reassembly.memory import MemoryTable
from zoo_search.reassembly.recipe import BlockRef, HasGraph, Head, Recipe, graph_of
from zoo_search.reassembly.stitch import stitch_cost

__all__ = ["Budget", "Cost", "CostTable"]


class CostTable:
    """Costs of the blocks, joints and heads of a zoo.

    Since every block gets the shape that it was traced with, the cost of a recipe is the sum of
    its blocks, its stitches and its head; peak activation memory is the largest of theirs. Only
    parameters that neighbouring blocks of one model share, which are rare, count once.

    Args:
        zoo: Models, or line graphs, by name.
        num_classes: Classes of the target head.
        measure: What to measure beside counting parameters and MACs.
        latency: Measures latency; default: one image at a time on this device.

    Attributes:
        latency: Nanoseconds of the parts, measured when first asked for.
        memory: Bytes of the parts, measured when first asked for.
        licenses: Licence of each model; None where it is not known.
        measure: What a cost holds beside parameters and MACs.
    """

    def __init__(
        self,
        zoo: Mapping[str, LineGraph | HasGraph],
        num_classes: int,
        measure: Collection[Measure] = (),
        latency: LatencyTable | None = None,
    ) -> None:
        self._zoo = zoo
        self._graphs = {name: graph_of(model) for name, model in zoo.items()}
        self.num_classes = num_classes
        self.measure: frozenset[Measure] = frozenset(measure)
        self.latency = latency or LatencyTable(self._graphs, num_classes)
        self.memory = MemoryTable(self._graphs, num_classes)
        self.licenses: dict[str, str | None] = {
            name: getattr(model, "license", None) for name, model in zoo.items()
        }
        self.block = cache(self._block)
        self.joint = cache(self._joint)

    def measuring(self, measure: Collection[Measure]) -> CostTable:
        """Return a table that measures this as well; what was measured is shared."""
        if self.measure.issuperset(measure):
            return self
        table = CostTable(self._zoo, self.num_classes, self.measure.union(measure), self.latency)
        table.memory = self.memory
        return table

    def cost(self, recipe: Recipe) -> Cost:
        """Return the cost of a recipe: parameters, MACs and memory are the built network's own."""
        runs = recipe.runs
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
        channels = graph.cuts[last.stop].channels
        weights = channels * self.num_classes
        return Cost(weights + self.num_classes, weights)

    def units_of_block(self, block: BlockRef, what: str, *, last: bool) -> int:
        """Return an additive cost of a block in whole units, of the last one with a target head.

        ``what`` is ``"params"``, ``"macs"`` or ``"latency"`` (nanoseconds).
        """
        if what == "latency":
            head = self.latency.head(block, "target") if last else 0
            return self.latency.block(block) + head
        value = units(self.block(block), what)
        return value + units(self.head(block, "target"), what) if last else value

    def units_of_joint(self, before: BlockRef, after: BlockRef, what: str) -> int:
        """Return the same of a joint; below 0 for parameters that both blocks hold."""
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
            whole = self.block(BlockRef(before.model, before.start, after.stop))
            return Cost(whole.params - self.block(before).params - self.block(after).params, 0)
        source, target = self._graphs[before.model], self._graphs[after.model]
        return Cost(*stitch_cost(source.cuts[before.stop], target.cuts[after.start]))


def _parameters(modules: Iterable[nn.Module]) -> dict[int, int]:
    """Return the number of elements of each parameter, each once."""
    return {id(p): p.numel() for module in modules for p in module.parameters()}
