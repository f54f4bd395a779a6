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

import bisect
import itertools
import math
import random
from collections.abc import Iterator
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from zoo_search.networks.recipe import BlockRef
from zoo_search.reassembly.space.choices import Choices

_CELLS = 4096  # of the grid of what is left to spend
_NUMBERS = 4_000_000  # in all grids of one stage
Ways = NDArray[np.int64] | NDArray[np.object_]
"""Numbers of recipes for every amount left, an axis for each limit."""


class Counts:
    """Recipes of one block a stage and a set, counted in upper limits with costs rounded down."""

    def __init__(self, choices: Choices) -> None:
        self._stages, self._sets, self._units_of = choices.stages, choices.sets, choices.units
        limits = choices.budget.limits
        highs = {limit.what: limit.high for limit in limits if limit.high is not None}
        self._memory = highs.pop("memory", None)
        # The grids of one stage, one for each of its blocks and each set of used sets, hold no more
        # than _NUMBERS cells together; what a grid may have is shared out evenly to its axes.
        widest = max(map(len, self._stages), default=1) * 2 ** max(len(self._stages) - 1, 0)
        side = max(1, int(min(_CELLS, max(1, _NUMBERS // widest)) ** (1 / max(len(highs), 1))))
        # One cell of an axis is so many parameters, MACs or nanoseconds. A limit of ``high`` leaves
        # the amounts 0 .. high, that is high + 1 of them, for ``side`` cells.
        self._units = {what: max(1, math.ceil((n + 1) / side)) for what, n in highs.items()}
        self._room = tuple(highs[what] // unit for what, unit in self._units.items())
        most = math.prod(len(stage) for stage in self._stages)
        # Numbers beyond 64 bits are Python's own, which are slower but have no limit.
        self._dtype = np.dtype(np.int64 if most < 2**62 else object)
        self._ways: dict[tuple[int, BlockRef, int], Ways] = {}
        self._cost = cache(self._count_cost)
        self.exact = not limits

    @cached_property
    def total(self) -> int:
        """How many recipes were counted: no fewer than are feasible."""
        return sum(number for _, number, _ in self._options((), 0, self._room))

    def draw(self, rng: random.Random) -> tuple[BlockRef, ...]:
        """Draw one of the counted recipes uniformly; there must be one."""
        blocks: tuple[BlockRef, ...] = ()
        used, left = 0, self._room
        for _ in self._stages:
            # A block is drawn in proportion to how many recipes go on behind it, so that every
            # recipe is as likely as any other: the shares along its way multiply to 1 / total.
            options = self._options(blocks, used, left)
            numbers = list(itertools.accumulate(number for _, number, _ in options))
            block, _, left = options[bisect.bisect_right(numbers, rng.randrange(numbers[-1]))]
            used |= 1 << self._sets[block]
            blocks = (*blocks, block)
        return blocks

    def all(self) -> Iterator[tuple[BlockRef, ...]]:
        """Yield every counted recipe once, in the order of the stages."""
        yield from self._go_on((), 0, self._room)

    def _go_on(
        self, blocks: tuple[BlockRef, ...], used: int, left: tuple[int, ...]
    ) -> Iterator[tuple[BlockRef, ...]]:
        if len(blocks) == len(self._stages):
            yield blocks
            return
        for block, _, rest in self._options(blocks, used, left):
            yield from self._go_on((*blocks, block), used | 1 << self._sets[block], rest)

    def _options(
        self, blocks: tuple[BlockRef, ...], used: int, left: tuple[int, ...]
    ) -> list[tuple[BlockRef, int, tuple[int, ...]]]:
        """Return the blocks to go on with, each with how many recipes do, and what it leaves."""
        options = []
        for block in self._stages[len(blocks)]:
            bit, spent = 1 << self._sets[block], self._cost(blocks[-1] if blocks else None, block)
            if used & bit or spent is None or any(s > r for s, r in zip(spent, left, strict=True)):
                continue
            rest = tuple(r - s for r, s in zip(left, spent, strict=True))
            number = int(self._behind(len(blocks), block, used | bit)[rest])
            if number:
                options.append((block, number, rest))
        return options

    def _behind(self, stage: int, block: BlockRef, used: int) -> Ways:
        """Return ``ways`` for every amount left, a grid with an axis for each limit."""
        key = (stage, block, used)
        if key not in self._ways:
            shape = tuple(room + 1 for room in self._room)
            # Behind the last block there is one way to go on, whatever is left: none to choose.
            last = stage == len(self._stages) - 1
            ways = np.full(shape, int(last), dtype=self._dtype)
            for after in () if last else self._stages[stage + 1]:
                bit, spent = 1 << self._sets[after], self._cost(block, after)
                if used & bit or spent is None or any(map(int.__gt__, spent, self._room)):
                    continue
                # ways[r] += behind[r - spent] for every amount r at once: the grid behind the next
                # block, moved up by what that block takes. Where r < spent, it cannot be paid for.
                there = tuple(slice(s, None) for s in spent)
                here = tuple(slice(None, n - s) for n, s in zip(shape, spent, strict=True))
                ways[there] += self._behind(stage + 1, after, used | bit)[here]
            self._ways[key] = ways
        return self._ways[key]

    def _count_cost(self, before: BlockRef | None, block: BlockRef) -> tuple[int, ...] | None:
        """Return what a block and the joint before it take; None where they are forbidden."""
        if self._memory is not None:
            part = block if before is None else (before, block)
            if self._units_of("memory")[part] > self._memory:
                return None
        # Rounded down, so that the sum over a recipe is at most its own cost in these units: one
        # within the limits is always counted. No value is below 0: a joint may take parameters
        # back that two neighbours share, but those the block has brought.
        spent = []
        for what, unit in self._units.items():
            units = self._units_of(what)
            joint = 0 if before is None else units[before, block]
            spent.append((units[block] + joint) // unit)
        return tuple(spent)
