"""Which tensors stay alive where, and the places where exactly one does.

A *position* ``p`` lies between operation ``p - 1`` and operation ``p``. Only values that depend on
the image's content count: what follows from parameters, constants or sizes alone is recomputed
inside each node that needs it and crosses no edge.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from zoo_search.linegraph.recording import Recording, Value, refs_in


@dataclass(frozen=True)
class Liveness:
    """Lifetimes of the image-dependent values of a recording.

    Attributes:
        born: First position at which a value is alive, by value number.
        dies: Last position at which a value is alive, by value number.
        count: How many values are alive, by position ``0 .. len(operations)``.
        sole: The only value alive at a position; meaningless where there are more.
    """

    recording: Recording
    born: dict[int, int]
    dies: dict[int, int]
    count: tuple[int, ...]
    sole: tuple[int, ...]

    def alive(self, position: int) -> list[Value]:
        """Return the values alive at ``position``."""
        values = self.recording.values
        return [values[v] for v in self.born if self.born[v] <= position <= self.dies[v]]

    def sole_at(self, position: int) -> int | None:
        """Return the only value alive at ``position`` if its first axis is the batch, else None."""
        if self.count[position] != 1:
            return None
        shape = self.recording.values[self.sole[position]].shape
        fits = len(shape) >= 2 and shape[0] == self.recording.values[0].shape[0]
        return self.sole[position] if fits else None

    def is_cut(self, position: int) -> bool:
        """Whether a single value is alive at ``position`` (:meth:`sole_at`)."""
        return self.sole_at(position) is not None

    def why_not(self, position: int) -> str:
        """Say which tensors stay alive across ``position``, from where to where."""
        alive = sorted(self.alive(position), key=lambda value: self.born[value.index])
        said = [self._lifetime(value) for value in alive[:3]]
        more = f" and {len(alive) - 3} more" if len(alive) > 3 else ""
        if len(alive) == 1:
            return f"the first axis of {said[0]} is not the batch"
        return f"{len(alive)} tensors stay alive: {', '.join(said)}{more}"

    def _lifetime(self, value: Value) -> str:
        """Say what ``value`` is and where it goes."""
        operations, itself = self.recording.operations, "the model itself"
        start, stop = self.born[value.index], self.dies[value.index]
        source = operations[start - 1].module if start else "the image"
        target = operations[stop].module if stop < len(operations) else "the output"
        return f"{value.size} from {source or itself} to {target or itself}"


def liveness(recording: Recording) -> Liveness:
    """Compute the lifetimes of all image-dependent values of ``recording``."""
    # A value is alive from behind the operation that made it to the last one that reads it, or
    # writes into it: the old version ends there and the new one begins.
    last: dict[int, int] = {}
    for operation in recording.operations:
        read = [*operation.inputs, *(old for _, old in operation.updates)]
        last.update(dict.fromkeys(read, operation.index))
    end = len(recording.operations)
    last.update(dict.fromkeys(refs_in(recording.root.output), end))
    # How many values are alive at each position is the running sum of births and deaths: linear
    # in the number of values and operations, however long the lives are.
    born, dies = {}, {}
    change = [0] * (end + 2)
    change_of_sum = [0] * (end + 2)
    for value in recording.values:
        start = 0 if value.producer is None else value.producer + 1
        stop = last.get(value.index, -1)
        if not value.from_image or stop < start:  # nothing behind it reads it
            continue
        born[value.index], dies[value.index] = start, stop
        change[start] += 1
        change[stop + 1] -= 1
        change_of_sum[start] += value.index
        change_of_sum[stop + 1] -= value.index
    count = tuple(itertools.accumulate(change[: end + 1]))
    # Where one value is alive, the sum of the numbers of the values alive is its number.
    sole = tuple(itertools.accumulate(change_of_sum[: end + 1]))
    return Liveness(recording, born, dies, count, sole)
