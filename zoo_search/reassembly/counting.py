"""How many recipes there are, by dynamic programming over stages, sets and what is left to spend.

``ways[b, M, r]`` is the number of ways to go on behind block ``b`` when the sets ``M`` are used and
``r`` is left of each upper limit: the sum of ``ways[b', M + set(b'), r - cost(b, b')]`` over the
blocks ``b'`` of the next stage in other sets, where ``cost(b, b')`` is that of the stitch and of
``b'``. Costs are counted in coarse units and rounded down, so that no feasible recipe is lost and
few are counted that are not; without limits the count is exact. A recipe that is drawn in
proportion to these numbers is drawn uniformly from those counted, and uniformly from the feasible
ones if the others are thrown away.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from zoo_search.reassembly.budget import ADDITIVE, Budget
from zoo_search.reassembly.cost import CostTable
from zoo_search.reassembly.memory import Bounds
from zoo_search.reassembly.recipe import BlockRef

__all__ = ["Counts"]

_CELLS = 4096  # of the grid of what is left to spend
_NUMBERS = 4_000_000  # in all grids of one stage
_FORBIDDEN = None


class Counts:
    """Recipes of one block a stage and a set, counted in a budget with costs rounded down.

    Args:
        stages: Blocks to choose from at each stage.
        sets: The set of each block.
        costs: Cost table.
        budget: Its upper limits count.
        bounds: Least peaks of memory where the budget limits them.
        cells: Largest size of the grid of what is left to spend.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[BlockRef]],
        sets: Mapping[BlockRef, int],
        costs: CostTable,
        budget: Budget,
        bounds: Bounds | None,
        cells: int = _CELLS,
    ) -> None:
        self._stages, self._sets, self._costs, self._bounds = stages, sets, costs, bounds
        highs = {limit.what: limit.high for limit in budget.limits if limit.high is not None}
        self._memory = highs.pop("memory", None)
        widest = max(map(len, stages), default=1) * 2 ** max(len(stages) - 1, 0)
        side = max(1, int(min(cells, max(1, _NUMBERS // widest)) ** (1 / max(len(highs), 1))))
        self._units = {
            what: max(1, math.ceil((high + 1) / side))
            for what, high in highs.items()
            if what in ADDITIVE
        }
        self._room = tuple(highs[what] // unit for what, unit in self._units.items())
        most = math.prod(len(stage) for stage in stages)
        self._dtype: Any = np.int64 if most < 2**62 else object
        self._ways: dict[tuple[int, BlockRef, int], Any] = {}
        self._spent: dict[tuple[BlockRef | None, BlockRef], tuple[int, ...] | None] = {}
        self.exact = not budget.limits

    @cached_property
    def total(self) -> int:
        """How many recipes were counted: no fewer than are feasible."""
        return sum(self._numbers(0, None, 0, self._room))

    def draw(self, rng: random.Random) -> tuple[BlockRef, ...]:
        """Draw one of the counted recipes uniformly; there must be one."""
        blocks: list[BlockRef] = []
        before, used, left = None, 0, self._room
        for stage, options in enumerate(self._stages):
            numbers = list(itertools.accumulate(self._numbers(stage, before, used, left)))
            place = rng.randrange(numbers[-1])
            block = next(b for b, n in zip(options, numbers, strict=True) if place < n)
            left = self._after(left, before, block)
            used |= 1 << self._sets[block]
            before = block
            blocks.append(block)
        return tuple(blocks)

    def all(self) -> Iterator[tuple[BlockRef, ...]]:
        """Yield every counted recipe once, in the order of the stages."""
        yield from self._go_on((), 0, self._room)

    def _go_on(
        self, blocks: tuple[BlockRef, ...], used: int, left: tuple[int, ...]
    ) -> Iterator[tuple[BlockRef, ...]]:
        if len(blocks) == len(self._stages):
            yield blocks
            return
        before = blocks[-1] if blocks else None
        numbers = self._numbers(len(blocks), before, used, left)
        for block, number in zip(self._stages[len(blocks)], numbers, strict=True):
            if number:
                rest = self._after(left, before, block)
                yield from self._go_on((*blocks, block), used | 1 << self._sets[block], rest)

    def _numbers(
        self, stage: int, before: BlockRef | None, used: int, left: tuple[int, ...]
    ) -> list[int]:
        """Return the number of recipes behind each block of a stage."""
        numbers = []
        for block in self._stages[stage]:
            bit, spent = 1 << self._sets[block], self._cost(before, block)
            if used & bit or spent is None or any(s > r for s, r in zip(spent, left, strict=True)):
                numbers.append(0)
                continue
            rest = tuple(r - s for r, s in zip(left, spent, strict=True))
            numbers.append(int(self._behind(stage, block, used | bit)[rest]))
        return numbers

    def _behind(self, stage: int, block: BlockRef, used: int) -> Any:
        """Return ``ways`` for every amount left, a grid with an axis for each limit."""
        key = (stage, block, used)
        if key not in self._ways:
            shape = tuple(room + 1 for room in self._room)
            last = stage == len(self._stages) - 1
            ways = np.full(shape, int(last), dtype=self._dtype)
            for after in () if last else self._stages[stage + 1]:
                bit, spent = 1 << self._sets[after], self._cost(block, after)
                if used & bit or spent is None or any(map(int.__gt__, spent, self._room)):
                    continue
                there = tuple(slice(s, None) for s in spent)
                here = tuple(slice(None, n - s) for n, s in zip(shape, spent, strict=True))
                ways[there] += self._behind(stage + 1, after, used | bit)[here]
            self._ways[key] = ways
        return self._ways[key]

    def _cost(self, before: BlockRef | None, block: BlockRef) -> tuple[int, ...] | None:
        """Return what a block and the joint before it take; None where they are forbidden."""
        key = (before, block)
        if key not in self._spent:
            self._spent[key] = self._count_cost(before, block)
        return self._spent[key]

    def _count_cost(self, before: BlockRef | None, block: BlockRef) -> tuple[int, ...] | None:
        if self._memory is not None and self._bounds is not None:
            peak = (
                self._bounds.blocks[block] if before is None else self._bounds.joints[before, block]
            )
            if peak > self._memory:
                return _FORBIDDEN
        spent = []
        for what, unit in self._units.items():
            value = self._costs.units_of_block(block, what, last=block in self._last)
            if before is not None:
                value += self._costs.units_of_joint(before, block, what)
            spent.append(value // unit)
        return tuple(spent)

    @cached_property
    def _last(self) -> frozenset[BlockRef]:
        return frozenset(self._stages[-1])

    def _after(
        self, left: tuple[int, ...], before: BlockRef | None, block: BlockRef
    ) -> tuple[int, ...]:
        spent = self._cost(before, block)
        assert spent is not None
        return tuple(r - s for r, s in zip(left, spent, strict=True))
