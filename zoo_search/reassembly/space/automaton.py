"""Networks as words of runs, and the automaton that reads each of them in one way.

A run is a stretch of nodes of one model, whatever blocks it is cut into; a network is one sequence
of runs, where no run goes on with the one before it. A choice of blocks is more than that: where
there are several partitions, or several cuts at a joint, one network may be cut into blocks in
several ways. What may be chosen after some blocks depends on the partition, on the stage that is
next and on the sets that are used; so after some runs on the *set* of all such places in which one
of the ways to cut them ends. These sets are the states here: the subset construction (Rabin and
Scott, 1959), by which each network is one way through the states.

Where the head reads every block, a network is its sequence of blocks: each is a run of its own, and
may go on with the one before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from zoo_search.networks.recipe import BlockRef
from zoo_search.reassembly.space.choices import Choices


class Place(NamedTuple):
    """Where one way to cut the runs so far into blocks ends."""

    part: int
    """Index of the partition."""
    stage: int
    """The next one."""
    used: int
    """Sets that are used, a bit for each."""
    last: BlockRef | None
    """The last block; None where nothing depends on it."""


@dataclass(frozen=True)
class State:
    """Where all ways to cut the runs so far into blocks end."""

    last: BlockRef
    """The last run, as much of it as the joint behind it depends on; at the start, an end."""
    places: frozenset[Place]


@dataclass(frozen=True)
class Step:
    """A run to go on with.

    Attributes:
        run: Nodes of one model.
        nanoseconds: Their latency, block by block; the least of all ways to cut them, and 0 where
            latency has no limit.
        state: Where it leads.
    """

    run: BlockRef
    nanoseconds: int
    state: State


class Automaton:
    """The states and steps of the networks that some partitions allow.

    Blocks and joints that alone take more than ``memory`` bytes are left out; ``timed`` asks for
    latencies.
    """

    def __init__(self, parts: Sequence[Choices], memory: int | None, *, timed: bool) -> None:
        self._parts, self._memory, self._timed = parts, memory, timed
        self._blockwise = parts[0].taps == "blocks"
        self.start = State(
            BlockRef.end(0), frozenset(Place(i, 0, 0, None) for i in range(len(parts)))
        )
        self.steps = cache(self._steps)

    def ends(self, state: State) -> bool:
        """Return whether a network may end in a state."""
        return any(self._ends(place) for place in state.places)

    def states(self) -> int:
        """Return how many states there are."""
        seen, left = {self.start}, [self.start]
        while left:
            for step in self.steps(left.pop()):
                if step.state not in seen:
                    seen.add(step.state)
                    left.append(step.state)
        return len(seen)

    def _ends(self, place: Place) -> bool:
        part, stage = self._parts[place.part], place.stage
        if stage == part.k:
            return True
        if not part.early or stage == 0:
            return False
        return place.last is None or self._fits(part, place.last, BlockRef.end(stage))

    def _steps(self, state: State) -> list[Step]:
        """Return the steps from a state, in a fixed order."""
        found: dict[BlockRef, set[Place]] = defaultdict(set)
        least: dict[BlockRef, int] = {}
        for place in state.places:
            for run, there, nanoseconds in self._runs(state, place):
                found[run].add(there)
                least[run] = min(nanoseconds, least.get(run, nanoseconds))
        return [
            Step(run, least[run], State(self._last(run), frozenset(found[run])))
            for run in sorted(found)
        ]

    def _last(self, run: BlockRef) -> BlockRef:
        # Runs are no neighbours: the stitch behind one depends on its last cut alone. Blocks may
        # be, and hold parameters together.
        return run if self._blockwise else BlockRef(run.model, run.stop - 1, run.stop)

    def _runs(self, state: State, place: Place) -> Iterator[tuple[BlockRef, Place, int]]:
        """Yield the runs that may follow in one partition, of one block or more.

        The first block does not go on with the run before it: that would be a longer run.
        """
        before = state.last
        part = self._parts[place.part]
        for block in part.stages[place.stage] if place.stage < part.k else ():
            if block.is_end or (before.precedes(block) and not self._blockwise):
                continue
            if place.stage == 0 or part.joins(before, block):
                yield from self._longer(place, block, block.start, 0)

    def _longer(
        self, place: Place, block: BlockRef, start: int, nanoseconds: int
    ) -> Iterator[tuple[BlockRef, Place, int]]:
        """Yield the run from ``start`` that ends with this block, and those that go on from it."""
        part = self._parts[place.part]
        bit = 1 << part.sets[block]
        if place.used & bit or not self._fits(part, place.last, block):
            return
        if self._timed:
            nanoseconds += part.costs.units_of_block(block, "latency", last=False)
        last = None if self._memory is None else block
        there = Place(place.part, place.stage + 1, place.used | bit, last)
        yield BlockRef(block.model, start, block.stop), there, nanoseconds
        if there.stage < part.k and not self._blockwise:
            for after in part.starting[there.stage].get((block.model, block.stop), ()):
                yield from self._longer(there, after, start, nanoseconds)

    def _fits(self, part: Choices, before: BlockRef | None, block: BlockRef) -> bool:
        """Return whether a block or end, and the joint before it, take no more memory."""
        if self._memory is None:
            return True
        least = part.units("memory")
        joint = 0 if before is None else least.get((before, block), 0)
        return max(least[block], joint) <= self._memory
