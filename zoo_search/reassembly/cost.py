"""What a recipe costs, from tables, without building it; and the limits on it (DeRy Eq. 9)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from torch import nn

from zoo_search.linegraph.graph import LineGraph
from zoo_search.reassembly.recipe import BlockRef, HasGraph, Head, Recipe, graph_of
from zoo_search.reassembly.stitch import stitch_cost

__all__ = ["Budget", "Cost", "CostTable"]


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-adds (MACs) for one image."""

    params: int
    macs: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs)

    def __str__(self) -> str:
        return f"{self.params / 1e6:.3g} M parameters, {self.macs / 1e9:.3g} GMACs"


class _Limits(Protocol):
    """The section ``budget`` of a run file."""

    @property
    def max_params(self) -> float | None: ...
    @property
    def max_macs(self) -> float | None: ...
    @property
    def min_params(self) -> float: ...
    @property
    def min_macs(self) -> float: ...


@dataclass(frozen=True)
class Budget:
    """Limits on a network, both ends included. MACs are multiply-adds for one image.

    The paper's and timm's "GFLOPs" are multiply-adds / 1e9 as well.
    """

    max_params: float | None = None
    max_macs: float | None = None
    min_params: float = 0
    min_macs: float = 0

    @classmethod
    def of(cls, limits: _Limits) -> Budget:
        """Return the budget of a run file's section ``budget``."""
        return cls(limits.max_params, limits.max_macs, limits.min_params, limits.min_macs)

    def admits(self, cost: Cost) -> bool:
        """Return whether a cost is within the limits."""
        return self.excess(cost) == 0

    def excess(self, cost: Cost) -> float:
        """Return by how much a cost breaks the limits: a sum of shares of the limits, 0 if none."""
        total = 0.0
        for value, low, high in self.ranges(cost):
            if high is not None and value > high:
                total += value / high - 1
            if value < low:
                total += 1 - value / low
        return total

    def ranges(self, cost: Cost) -> tuple[tuple[int, float, float | None], ...]:
        """Return (value, lower limit, upper limit) for parameters and MACs."""
        return (
            (cost.params, self.min_params, self.max_params),
            (cost.macs, self.min_macs, self.max_macs),
        )

    def __str__(self) -> str:
        parts = [
            f"{name} {sign} {value:g}"
            for name, sign, value in (
                ("parameters", ">=", self.min_params or None),
                ("parameters", "<=", self.max_params),
                ("MACs", ">=", self.min_macs or None),
                ("MACs", "<=", self.max_macs),
            )
            if value is not None
        ]
        return ", ".join(parts) or "no limits"


class CostTable:
    """Costs of the blocks, joints and heads of a zoo.

    Since every block gets the shape that it was traced with, the cost of a recipe is the sum of
    its blocks, its stitches and its head. Only parameters that neighbouring blocks of one model
    share, which are rare, count once.

    Args:
        zoo: Models, or line graphs, by name.
        num_classes: Classes of the target head.
    """

    def __init__(self, zoo: Mapping[str, LineGraph | HasGraph], num_classes: int) -> None:
        self._graphs = {name: graph_of(model) for name, model in zoo.items()}
        self.num_classes = num_classes
        self.block = cache(self._block)
        self.joint = cache(self._joint)

    def cost(self, recipe: Recipe) -> Cost:
        """Return the cost of a recipe: equal to what the built network counts."""
        runs = recipe.runs
        total = self.head(runs[-1], recipe.head)
        for run in runs:
            total += self.block(run)
        for before, after in itertools.pairwise(runs):
            total += self.joint(before, after)
        return total

    def head(self, last: BlockRef, head: Head) -> Cost:
        """Return the cost of the head on the last block."""
        graph = self._graphs[last.model]
        if head == "source":
            nodes = graph.nodes[last.start : last.stop]
            below = _parameters(node.module for node in nodes)
            own = _parameters([graph.head])
            return Cost(sum(n for i, n in own.items() if i not in below), graph.head_macs)
        channels = graph.cuts[last.stop].channels
        weights = channels * self.num_classes
        return Cost(weights + self.num_classes, weights)

    def _block(self, block: BlockRef) -> Cost:
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
