"""Layout, grid and prefix tokens of cuts, and the canonical NCHW form.

Two signals tell where the channels of a tensor are: what makes and what consumes it (a convolution
or batch norm has channels at axis 1, a linear layer or layer norm at the last), and which two axes
are equal, as those of a square image's grid are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.linegraph.coordinates import Coordinates
from zoo_search.linegraph.graph import Cut
from zoo_search.linegraph.packing import PackMaps
from zoo_search.linegraph.recording import Operation, Recording, Ref, refs_in

__all__ = ["LayoutFinder", "from_nchw", "to_nchw"]

_FIRST: frozenset[Callable[..., Any]] = frozenset(
    {torch.conv2d, F.conv2d, F.batch_norm, F.group_norm, F.instance_norm, F.max_pool2d,
     F.avg_pool2d, F.adaptive_avg_pool2d, F.interpolate}
)  # fmt: skip
_LAST: frozenset[Callable[..., Any]] = frozenset({F.linear, F.layer_norm, F.rms_norm})
_PERMUTED: dict[tuple[int, ...], int] = {(0, 2, 3, 1): -1, (0, 3, 1, 2): 1}
_MAX_PREFIX = 16
_FINE = 4096  # coordinates are told apart to this fraction of the image


def to_nchw(x: Tensor, cut: Cut) -> tuple[Tensor, Tensor | None]:
    """Bring a tensor at ``cut`` into the canonical form.

    Args:
        x: ``[B, C, H, W]``, ``[B, H, W, C]``, ``[B, prefix + H*W, C]`` or ``[B, windows,
            H*W / windows, C]``, as the cut says.
        cut: Where the tensor stands.

    Returns:
        The map ``[B, C, H, W]`` and the prefix tokens ``[B, prefix, C]``, None if there are none.
    """
    if cut.layout == "nchw":
        return x, None
    if cut.layout == "nhwc":
        return x.permute(0, 3, 1, 2), None
    if cut.layout == "windows":
        x = x.flatten(1, 2)
    prefix, tokens = x[:, : cut.prefix_tokens], x[:, cut.prefix_tokens :]
    if cut.order is not None:
        tokens = tokens[:, torch.tensor(cut.order, device=x.device).argsort()]
    grid = tokens.transpose(1, 2).reshape(x.shape[0], -1, *cut.grid)
    return grid, prefix if cut.prefix_tokens else None


def from_nchw(grid: Tensor, prefix: Tensor | None, cut: Cut) -> Tensor:
    """Bring the canonical form into the layout of ``cut``; the inverse of :func:`to_nchw`.

    Args:
        grid: ``[B, C, H, W]``.
        prefix: ``[B, prefix, C]``, or None where the cut has no prefix tokens.
        cut: Where the tensor shall stand.

    Raises:
        ValueError: If the number of prefix tokens is not that of the cut.
    """
    given = 0 if prefix is None else prefix.shape[1]
    if given != cut.prefix_tokens:
        raise ValueError(
            f"cut {cut.index} ({cut.name}) has {cut.prefix_tokens} prefix tokens, not {given}"
        )
    if cut.layout == "nchw":
        return grid
    if cut.layout == "nhwc":
        return grid.permute(0, 2, 3, 1)
    tokens = grid.flatten(2).transpose(1, 2)
    if cut.order is not None:
        tokens = tokens[:, torch.tensor(cut.order, device=grid.device)]
    if cut.layout == "windows":
        return tokens.reshape(tokens.shape[0], cut.windows, -1, tokens.shape[2])
    return tokens if prefix is None else torch.cat([prefix, tokens], dim=1)


class LayoutFinder:
    """Tells the layout of the values of a recording."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._coordinates = Coordinates(recording)
        self._users: dict[int, list[Operation]] = {}
        for op in recording.operations:
            for number in refs_in(op.args, op.kwargs):
                self._users.setdefault(number, []).append(op)

    @property
    def batch(self) -> int:
        """Images in the recorded batch."""
        return self._recording.values[0].shape[0]

    def cut(self, index: int, name: str, value: int) -> Cut | None:
        """Describe value ``value`` as cut ``index``; None if it has no known layout."""
        shape = self._recording.values[value].shape[1:]
        if len(shape) == 3:
            if self._channels_first(value):
                return Cut(index, name, "nchw", shape[0], (shape[1], shape[2]))
            placed = self._placed(value)
            if placed is None or placed[0] == shape[:2]:
                return Cut(index, name, "nhwc", shape[2], (shape[0], shape[1]))
            grid, _, order = placed
            return Cut(index, name, "windows", shape[2], grid, 0, shape[0], order)
        if len(shape) == 2 and self._vote(value) >= 0:
            placed = self._placed(value)
            if placed is not None:
                return Cut(index, name, "tokens", shape[1], placed[0], placed[1], 1, placed[2])
            found = self._grid(value, shape[0])
            if found is not None:
                return Cut(index, name, "tokens", shape[1], found[0], found[1])
        return None

    def _placed(self, value: int) -> tuple[tuple[int, int], int, tuple[int, ...] | None] | None:
        """Return grid, prefix tokens and order of a value with channels last, if known."""
        coordinates = self._coordinates.of(value)
        if coordinates is None:
            return None
        places = coordinates[0].mean(-1).flatten()
        outside = places.isnan()
        prefix = int(outside.sum())
        if not prefix <= min(_MAX_PREFIX, len(places) - 1) or not bool(outside[:prefix].all()):
            return None
        rows, row = torch.unique((places[prefix:].real * _FINE).round(), return_inverse=True)
        columns, column = torch.unique((places[prefix:].imag * _FINE).round(), return_inverse=True)
        height, width = len(rows), len(columns)
        order = row * width + column
        raster = torch.arange(height * width)
        if len(order) != height * width or not torch.equal(order.sort().values, raster):
            return None
        plain = torch.equal(order, raster)
        return (height, width), prefix, None if plain else tuple(order.tolist())

    def _channels_first(self, value: int) -> bool:
        """Whether the channels of a 4-D value are at axis 1."""
        _, a, b, c = self._recording.values[value].shape
        vote = self._vote(value)
        if vote:
            return vote < 0
        return not (a == b != c)

    def _vote(self, value: int) -> int:
        """Ask what consumes and what makes a value: below 0 for axis 1, above 0 for the last."""
        vote = self._consumers(value)
        return vote or self._producers(value)

    def _consumers(self, value: int, depth: int = 12) -> int:
        """Follow a value forward through operations that keep its shape."""
        if depth == 0:
            return 0
        values = self._recording.values
        shape = values[value].shape
        for op in self._users.get(value, []):
            vote = self._says(op, value, shape)
            if vote:
                return vote
        for op in self._users.get(value, []):
            for number in refs_in(op.output):
                if values[number].shape == shape and not _moves(op):
                    vote = self._consumers(number, depth - 1)
                    if vote:
                        return vote
        return 0

    def _producers(self, value: int, depth: int = 12) -> int:
        """Follow a value backward through operations that keep its shape."""
        values = self._recording.values
        producer = values[value].producer
        if producer is None or depth == 0:
            return 0
        op = self._recording.operations[producer]
        shape = values[value].shape
        if op.function in _FIRST or isinstance(op.function, PackMaps):
            return -1
        if op.function in _LAST:
            return 1
        if _is_permute(op):
            return -_PERMUTED.get(_permutation(op), 0)
        if _moves(op):
            return 0
        for number in refs_in(op.args, op.kwargs):
            if values[number].shape == shape:
                vote = self._producers(number, depth - 1)
                if vote:
                    return vote
        return 0

    def _says(self, op: Operation, value: int, shape: tuple[int, ...]) -> int:
        """What one consumer says about the channels of ``value``."""
        if not op.args or op.args[0] != Ref(value):
            return 0
        if op.function in _FIRST:
            return -1
        if op.function in _LAST:
            return 1
        if _is_permute(op):
            return _PERMUTED.get(_permutation(op), 0)
        return 0

    def _grid(self, value: int, tokens: int) -> tuple[tuple[int, int], int] | None:
        """Find the grid and the number of prefix tokens of a token tensor.

        The grid is that of the last 4-D tensor before it that fits.
        """
        values = self._recording.values
        for number in range(value - 1, -1, -1):
            shape = values[number].shape
            if len(shape) != 4 or not values[number].from_image or number == 0:
                continue
            pairs = [shape[2:], shape[1:3]] if self._channels_first(number) else [shape[1:3]]
            for height, width in pairs:
                prefix = tokens - height * width
                if height > 1 and 0 <= prefix <= min(_MAX_PREFIX, height * width - 1):
                    return (height, width), prefix
        return self._even_grid(tokens)

    def _even_grid(self, tokens: int) -> tuple[tuple[int, int], int] | None:
        """Find a grid of square patches that fits, with the fewest prefix tokens."""
        height, width = self._recording.values[0].shape[2:]
        fits = [
            (tokens - (height // size) * (width // size), size)
            for size in range(2, min(height, width) // 2 + 1)
            if height % size == 0 and width % size == 0
        ]
        fits = [(prefix, size) for prefix, size in fits if 0 <= prefix <= _MAX_PREFIX]
        if not fits:
            return None
        prefix, size = min(fits)
        return (height // size, width // size), prefix


def _moves(op: Operation) -> bool:
    """Whether an operation moves axes or elements."""
    return getattr(op.function, "__name__", "") in {
        "permute", "transpose", "view", "reshape", "flatten", "unflatten", "roll", "flip", "cat",
        "T", "mT", "swapaxes", "movedim", "matmul", "bmm", "einsum", "baddbmm", "pad",
    }  # fmt: skip


def _is_permute(op: Operation) -> bool:
    """Whether an operation is a permutation of four axes."""
    return getattr(op.function, "__name__", "") == "permute" and len(_permutation(op)) == 4


def _permutation(op: Operation) -> tuple[int, ...]:
    """Return the axes of a permute, counted from the front."""
    axes = op.args[1] if len(op.args) == 2 and isinstance(op.args[1], tuple | list) else op.args[1:]
    if not axes:
        axes = op.kwargs.get("dims", ())
    return tuple(int(axis) % len(axes) for axis in axes)
