"""Which tensors stay alive where, and the places where exactly one does.

A *position* ``p`` lies between operation ``p - 1`` and operation ``p``. Only values that depend on
the image's content count: what follows from parameters, constants or sizes alone is recomputed
inside each node that needs it and crosses no edge.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from zoo_search.linegraph.recording import Recording, Value, refs_in

__all__ = ["Liveness", "liveness"]


@dataclass(frozen=True)
class Liveness:
    """Lifetimes of the image-dependent values of a recording.

    Attributes:
        recording: What was analysed.
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

    def is_cut(self, position: int) -> bool:
        """Whether exactly one value is alive at ``position`` and its first axis is the batch."""
        if self.count[position] != 1:
            return False
        shape = self.recording.values[self.sole[position]].shape
        return len(shape) >= 2 and shape[0] == self.recording.values[0].shape[0]

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
        operations = self.recording.operations
        shape = "×".join(str(size) for size in value.shape[1:])
        start, stop = self.born[value.index], self.dies[value.index]
        source = operations[start - 1].module or "the model itself" if start else "the image"
        if stop >= len(operations):
            target = "the output"
        else:
            target = operations[stop].module or "the model itself"
        return f"{shape} from {source} to {target}"


def liveness(recording: Recording) -> Liveness:
    """Compute the lifetimes of all image-dependent values of ``recording``."""
    last: dict[int, int] = {}
    for operation in recording.operations:
        for number in refs_in(operation.args, operation.kwargs):
            last[number] = operation.index
        for _, old in operation.updates:
            last[old] = operation.index
    end = len(recording.operations)
    for number in refs_in(recording.root.output):
        last[number] = end
    born, dies = {}, {}
    change = [0] * (end + 2)
    change_of_sum = [0] * (end + 2)
    for value in recording.values:
        if not value.from_image or value.index not in last:
            continue
        start = 0 if value.producer is None else value.producer + 1
        if last[value.index] < start:
            continue
        born[value.index], dies[value.index] = start, last[value.index]
        change[start] += 1
        change[last[value.index] + 1] -= 1
        change_of_sum[start] += value.index
        change_of_sum[last[value.index] + 1] -= value.index
    count = tuple(itertools.accumulate(change[: end + 1]))
    # Where one value is alive, the sum of the numbers of the values alive is its number.
    sole = tuple(itertools.accumulate(change_of_sum[: end + 1]))
    return Liveness(recording, born, dies, count, sole)
