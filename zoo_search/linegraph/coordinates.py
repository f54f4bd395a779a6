"""Where in the image the elements of a tensor lie: coordinates followed through a recording.

Coordinates start as the raster of a feature map and go through whatever only moves, pools or
projects elements. They tell the grid of a token sequence, which tokens stand before it, and in
which order its cells come (blocked in nest, unrolled in hiera, raster elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.linegraph.follow import resolve
from zoo_search.linegraph.recording import Operation, Recording, Ref, map_leaves

_MOVES = frozenset(
    {
        "view", "reshape", "permute", "transpose", "flatten", "unflatten", "squeeze", "unsqueeze",
        "contiguous", "__getitem__", "roll", "swapaxes", "movedim", "T", "mT", "clone", "tile",
    }
)  # fmt: skip
_POOLS = frozenset({"amax", "max", "mean", "amin", "min"})
_MAPS: frozenset[Callable[..., object]] = frozenset(
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
        # Depth first with a stack of its own, since models have thousands of operations: a value
        # stays on the stack until all that it takes its coordinates from is known.
        todo = [value]
        while todo:
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
            # One input with coordinates is enough (``x + pos_embed``), but for a concatenation.
            op = self._recording.maker(value)
            if self._known[number] is not None and op is not None and op.name != "cat":
                return None
        return None

    def _inputs(self, value: int) -> list[int]:
        """Return the values that could lend their coordinates, most likely first."""
        values, op = self._recording.values, self._recording.maker(value)
        if op is None or (op.function in _MAPS and len(values[value].shape) == 4):
            return []
        inputs = [n for n in op.inputs if values[n].from_image and n < value]
        # What moves or pools elements does so to those of its first argument.
        first = op.name in _MOVES or op.name in _POOLS or op.function is F.linear
        return inputs[:1] if first else inputs

    def _moved(self, value: int) -> Tensor | None:
        """Return the coordinates of a value from those of its inputs."""
        shape, op = self._recording.values[value].shape, self._recording.maker(value)
        if op is None:
            return _raster(shape) if value == 0 else None
        if op.function in _MAPS and len(shape) == 4:
            return _raster(shape)
        inputs = self._inputs(value)
        lent = next((c for n in inputs if (c := self._known.get(n)) is not None), None)
        if lent is None:
            return None
        if op.name == "cat" or op.name in _MOVES:
            return self._repeat(op, shape)
        if op.name in _POOLS and lent.shape != shape:
            return _pooled(op, lent, shape)
        if tuple(lent.shape) == shape:
            return lent
        # Each output channel is a sum over the input channels of the same place.
        if op.function is F.linear:
            return lent.mean(-1, keepdim=True).expand(shape)
        return None

    def _repeat(self, op: Operation, shape: tuple[int, ...]) -> Tensor | None:
        """Repeat an operation on coordinates instead of features."""

        def fill(leaf: object) -> object:
            if not isinstance(leaf, Ref):
                return resolve(leaf, self._image)
            if (known := self._known.get(leaf.index)) is not None:
                return known
            # What comes from no place, such as a class token, is nowhere.
            nowhere = torch.full((1,), torch.nan, dtype=torch.complex64)
            return nowhere.expand(self._recording.values[leaf.index].shape)

        try:
            out = op.function(*map_leaves(fill, op.args), **map_leaves(fill, op.kwargs))
        except (RuntimeError, TypeError, ValueError, IndexError):
            return None
        return out if isinstance(out, Tensor) and tuple(out.shape) == shape else None


def _raster(shape: tuple[int, ...]) -> Tensor:
    """Return the coordinates of a map ``[B, C, H, W]``."""
    height, width = shape[-2:]
    y, x = ((torch.arange(size) + 0.5) / size for size in (height, width))
    return torch.complex(*torch.meshgrid(y, x, indexing="ij")).expand(shape)


def _pooled(op: Operation, lent: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return the mean coordinates over the axes that an operation pools."""
    dim = op.kwargs.get("dim", op.args[1] if len(op.args) > 1 else None)
    if not isinstance(dim, int | tuple | list):
        return None
    out = lent.mean(dim)
    return out.reshape(shape) if out.numel() == torch.Size(shape).numel() else None
