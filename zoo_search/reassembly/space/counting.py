"""How many recipes there are, by dynamic programming over runs and what is left to spend.

``ways[S, r]`` is the number of ways to go on from the state ``S`` (:mod:`.automaton`) when ``r`` is
left of each upper limit: one if a network may end there and its head can be paid, and the sum of
``ways[S', r - cost]`` over the runs that lead to a state ``S'``, where ``cost`` is that of the
stitch and of the run. Costs are counted in coarse units and rounded down, so that no feasible
recipe is lost and few are counted that are not; without limits the count is exact. Networks that
can be cut into blocks in several ways, or stand in several partitions, are one way through the
states each, and counted once. A recipe that is drawn in proportion to these numbers is drawn
uniformly from those counted, and uniformly from the feasible ones if the others are thrown away.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from zoo_search.networks.recipe import BlockRef
from zoo_search.reassembly.space.automaton import Automaton, State, Step
from zoo_search.reassembly.space.choices import Choices

_CELLS = 4096  # of the grid of what is left to spend
_NUMBERS = 16_000_000  # in the grids of all states
Ways = NDArray[np.int64] | NDArray[np.object_]
"""Numbers of recipes for every amount left, an axis for each limit."""
Runs = tuple[BlockRef, ...]
Amounts = tuple[int, ...]


class Counts:
    """Networks that some partitions allow, counted in upper limits with costs rounded down."""

    def __init__(self, parts: Sequence[Choices]) -> None:
        self._costs, limits = parts[0].costs, parts[0].budget.limits
        memory = next((limit.high for limit in limits if limit.what == "memory"), None)
        highs = {n.what: n.high for n in limits if n.what != "memory" and n.high is not None}
        self._automaton = Automaton(parts, memory, timed="latency" in highs)
        # The grids of all states hold no more than _NUMBERS cells together; what a grid may have is
        # shared out evenly to its axes.
        cells = min(_CELLS, max(1, _NUMBERS // self._automaton.states())) if highs else 1
        side = max(1, int(cells ** (1 / max(len(highs), 1))))
        # One cell of an axis is so many parameters, MACs or nanoseconds. A limit of ``high`` leaves
        # the amounts 0 .. high, that is high + 1 of them, for ``side`` cells.
        self._units = {what: max(1, math.ceil((n + 1) / side)) for what, n in highs.items()}
        self._room = tuple(highs[what] // unit for what, unit in self._units.items())
        most = sum(math.prod(len(stage) for stage in part.stages) for part in parts)
        # Numbers beyond 64 bits are Python's own, which are slower but have no limit.
        self._dtype = np.dtype(np.int64 if most < 2**62 else object)
        self._ways: dict[State, Ways] = {}
        self._joint = cache(self._joint_and_run)
        self._head = cache(self._head_on)
        self.exact = not limits

    @cached_property
    def total(self) -> int:
        """How many recipes were counted: no fewer than are feasible."""
        return int(self._behind(self._automaton.start)[self._room])

    def draw(self, rng: random.Random) -> Runs:
        """Draw one of the counted recipes uniformly, as runs; there must be one."""
        runs: Runs = ()
        state, left = self._automaton.start, self._room
        while True:
            # A run is drawn in proportion to how many recipes go on behind it, so that every
            # recipe is as likely as any other: the shares along its way multiply to 1 / total.
            options = self._options(state, left)
            stop = int(self._may_end(state, left))
            numbers = list(itertools.accumulate((number for _, number, _ in options), initial=stop))
            place = bisect.bisect_right(numbers, rng.randrange(numbers[-1]))
            if place == 0:
                return runs
            step, _, left = options[place - 1]
            runs, state = (*runs, step.run), step.state

    def all(self) -> Iterator[Runs]:
        """Yield every counted recipe once, as runs."""
        yield from self._go_on((), self._automaton.start, self._room)

    def _go_on(self, runs: Runs, state: State, left: Amounts) -> Iterator[Runs]:
        if self._may_end(state, left):
            yield runs
        for step, _, rest in self._options(state, left):
            yield from self._go_on((*runs, step.run), step.state, rest)

    def _options(self, state: State, left: Amounts) -> list[tuple[Step, int, Amounts]]:
        """Return the runs to go on with, each with how many recipes do, and what it leaves."""
        options = []
        for step in self._automaton.steps(state):
            spent = self._spent(state, step)
            if any(s > r for s, r in zip(spent, left, strict=True)):
                continue
            rest = tuple(r - s for r, s in zip(left, spent, strict=True))
            number = int(self._behind(step.state)[rest])
            if number:
                options.append((step, number, rest))
        return options

    def _may_end(self, state: State, left: Amounts) -> bool:
        if not self._automaton.ends(state):
            return False
        head = self._head(state.last)
        return all(s <= r for s, r in zip(head, left, strict=True))

    def _behind(self, state: State) -> Ways:
        """Return ``ways`` for every amount left, a grid with an axis for each limit."""
        if state not in self._ways:
            shape = tuple(room + 1 for room in self._room)
            ways = np.zeros(shape, dtype=self._dtype)
            if self._automaton.ends(state):
                ways[tuple(slice(s, None) for s in self._head(state.last))] += 1
            for step in self._automaton.steps(state):
                spent = self._spent(state, step)
                if any(map(int.__gt__, spent, self._room)):
                    continue
                # ways[r] += behind[r - spent] for every amount r at once: the grid behind the run,
                # moved up by what the run takes. Where r < spent, it cannot be paid for.
                there = tuple(slice(s, None) for s in spent)
                here = tuple(slice(None, n - s) for n, s in zip(shape, spent, strict=True))
                ways[there] += self._behind(step.state)[here]
            self._ways[state] = ways
        return self._ways[state]

    def _spent(self, state: State, step: Step) -> Amounts:
        """Return what a run and the stitch before it take, rounded down.

        So the sum over a recipe is at most its own cost in these units: one within the limits is
        always counted.
        """
        amounts = self._joint(state.last, step.run)
        return tuple(
            (amount + (step.nanoseconds if what == "latency" else 0)) // unit
            for amount, (what, unit) in zip(amounts, self._units.items(), strict=True)
        )

    def _joint_and_run(self, before: BlockRef, run: BlockRef) -> Amounts:
        """Return what a joint takes, and, but for latency, the run behind it."""
        amounts = []
        for what in self._units:
            joint = 0 if before.is_end else self._costs.units_of_joint(before, run, what)
            own = 0 if what == "latency" else self._costs.units_of_block(run, what, last=False)
            amounts.append(joint + own)
        return tuple(amounts)

    def _head_on(self, last: BlockRef) -> Amounts:
        """Return what the head takes on a last run."""
        return tuple(self._costs.units_of_head(last, w) // unit for w, unit in self._units.items())
