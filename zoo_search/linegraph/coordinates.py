"""Where in the image the elements of a tensor lie: coordinates followed through a recording.

Coordinates start as the raster of a feature map and go through whatever only moves, pools or
projects elements. They tell the grid of a token sequence, which tokens stand before it, and in
which order its cells come (blocked in nest, unrolled in hiera, raster elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.linegraph.follow import resolve
from zoo_search.linegraph.recording import Operation, Recording, Ref, map_leaves, refs_in

__all__ = ["Coordinates"]

_MOVES = frozenset(
    {
        "view", "reshape", "permute", "transpose", "flatten", "unflatten", "squeeze", "unsqueeze",
        "contiguous", "__getitem__", "roll", "swapaxes", "movedim", "T", "mT", "clone", "tile",
    }
)  # fmt: skip
_POOLS = frozenset({"amax", "max", "mean", "amin", "min"})
_MAPS: frozenset[Callable[..., Any]] = frozenset(
    {torch.conv2d, F.conv2d, F.max_pool2d, F.avg_pool2d, F.interpolate}
)


class Coordinates:
    """Follows coordinates backward from a value to the map that it came from.

    A coordinate is the complex number ``y + ix`` of the middle of an element's patch, in fractions
    of the image; NaN where an element comes from no place in the image (a class token).
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._known: dict[int, Tensor | None] = {}
        self._image = torch.empty(recording.values[0].shape, device="meta")

    def of(self, value: int) -> Tensor | None:
        """Return coordinates in the shape of the value, batch first; None if they are not known."""
        todo = [value]
        while todo:  # no recursion: models have thousands of operations
            at = todo[-1]
            if at in self._known:
                todo.pop()
                continue
            missing = self._sources(at)
            if missing is None:
                self._known[at] = self._moved(at)
                todo.pop()
            else:
                todo.append(missing)
        return self._known[value]

    def _sources(self, value: int) -> int | None:
        """Return a value whose coordinates must be known first; None if there is none."""
        for number in self._inputs(value):
            if number not in self._known:
                return number
            if self._known[number] is not None and not self._is_cat(value):
                return None
        return None

    def _inputs(self, value: int) -> list[int]:
        """Return the values that could lend their coordinates, most likely first."""
        values = self._recording.values
        producer = values[value].producer
        if producer is None:
            return []
        op = self._recording.operations[producer]
        if op.function in _MAPS and len(values[value].shape) == 4:
            return []
        inputs = [n for n in refs_in(op.args, op.kwargs) if values[n].from_image and n < value]
        return inputs[:1] if self._only_moves(op) else inputs

    def _only_moves(self, op: Operation) -> bool:
        """Whether the operation moves or pools the elements of its first argument."""
        name = getattr(op.function, "__name__", "")
        return name in _MOVES or name in _POOLS or op.function is F.linear

    def _is_cat(self, value: int) -> bool:
        """Whether a value was joined from several."""
        producer = self._recording.values[value].producer
        if producer is None:
            return False
        return getattr(self._recording.operations[producer].function, "__name__", "") == "cat"

    def _moved(self, value: int) -> Tensor | None:
        """Return the coordinates of a value from those of its inputs."""
        values = self._recording.values
        shape, producer = values[value].shape, values[value].producer
        if producer is None:
            return _raster(shape) if value == 0 else None
        op = self._recording.operations[producer]
        if op.function in _MAPS and len(shape) == 4:
            return _raster(shape)
        inputs = self._inputs(value)
        lent = next((c for n in inputs if (c := self._known.get(n)) is not None), None)
        if lent is None:
            return None
        name = getattr(op.function, "__name__", "")
        if name == "cat" or name in _MOVES:
            return self._repeat(op, value)
        if name in _POOLS and lent.shape != shape:
            return _pooled(op, lent, shape)
        if tuple(lent.shape) == shape:
            return lent
        if op.function is F.linear:
            return lent.mean(-1, keepdim=True).expand(shape)
        return None

    def _repeat(self, op: Operation, value: int) -> Tensor | None:
        """Repeat an operation on coordinates instead of features."""

        def fill(leaf: Any) -> Any:
            if not isinstance(leaf, Ref):
                return resolve(leaf, self._image)
            known = self._known.get(leaf.index)
            if known is not None:
                return known
            shape = self._recording.values[leaf.index].shape
            return torch.full((1,), torch.nan, dtype=torch.complex64).expand(shape)

        try:
            out = op.function(*map_leaves(fill, op.args), **map_leaves(fill, op.kwargs))
        except (RuntimeError, TypeError, ValueError, IndexError):
            return None
        same = isinstance(out, Tensor) and tuple(out.shape) == self._recording.values[value].shape
        return out if same else None


def _raster(shape: tuple[int, ...]) -> Tensor:
    """Return the coordinates of a map ``[B, C, H, W]``."""
    height, width = shape[-2:]
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    return torch.complex(y[:, None].expand(height, width), x[None].expand(height, width)).expand(
        shape
    )


def _pooled(op: Operation, lent: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return the mean coordinates over the axes that an operation pools."""
    dim = op.kwargs.get("dim", op.args[1] if len(op.args) > 1 else None)
    if not isinstance(dim, int | tuple | list):
        return None
    out = lent.mean(dim)
    return out.reshape(shape) if out.numel() == torch.Size(shape).numel() else None
