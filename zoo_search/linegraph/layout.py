"""Layout, grid and prefix tokens of cuts, and the canonical NCHW form.

Two signals tell where the channels of a tensor are: what makes and what consumes it (a convolution
or batch norm has channels at axis 1, a linear layer or layer norm at the last), and which two axes
are equal, as those of a square image's grid are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.linegraph.coordinates import Coordinates
from zoo_search.linegraph.graph import Cut
from zoo_search.linegraph.packing import PackMaps
from zoo_search.linegraph.recording import Operation, Recording, Ref, refs_in

_FIRST: frozenset[Callable[..., object]] = frozenset(
    {torch.conv2d, F.conv2d, F.batch_norm, F.group_norm, F.instance_norm, F.max_pool2d,
     F.avg_pool2d, F.adaptive_avg_pool2d, F.interpolate}
)  # fmt: skip
_LAST: frozenset[Callable[..., object]] = frozenset({F.linear, F.layer_norm, F.rms_norm})
# Functions that move axes or elements, by name.
_MOVES = frozenset({
    "permute", "transpose", "view", "reshape", "flatten", "unflatten", "roll", "flip", "cat",
    "T", "mT", "swapaxes", "movedim", "matmul", "bmm", "einsum", "baddbmm", "pad",
})  # fmt: skip
_PERMUTED: dict[tuple[int, ...], int] = {(0, 2, 3, 1): -1, (0, 3, 1, 2): 1}
_MAX_PREFIX = 16
Placed = tuple[tuple[int, int], int, tuple[int, ...] | None]
"""Grid, prefix tokens and order of tokens, as a cut has them."""
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
        self._users: defaultdict[int, list[Operation]] = defaultdict(list)
        for op in recording.operations:
            for number in op.inputs:
                self._users[number].append(op)

    def cut(self, index: int, name: str, value: int) -> Cut | None:
        """Describe value ``value`` as cut ``index``; None if it has no known layout."""
        shape = self._recording.values[value].shape[1:]
        if len(shape) == 3:
            if self._channels_first(value):
                return Cut(index, name, "nchw", shape[0], (shape[1], shape[2]))
            placed = self._placed(value)
            # Channels last: NHWC where the places of the cells make the first two axes the grid,
            # else windows and the cells inside each.
            if placed is None or placed[0] == shape[:2]:
                return Cut(index, name, "nhwc", shape[2], (shape[0], shape[1]))
            grid, _, order = placed
            return Cut(index, name, "windows", shape[2], grid, 0, shape[0], order)
        if len(shape) == 2 and self._vote(value) >= 0:
            placed = self._placed(value) or self._grid(value, shape[0])
            if placed is not None:
                return Cut(index, name, "tokens", shape[1], placed[0], placed[1], 1, placed[2])
        return None

    def _placed(self, value: int) -> Placed | None:
        """Return grid, prefix tokens and order of a value with channels last, if known."""
        coordinates = self._coordinates.of(value)
        if coordinates is None:
            return None
        # One place for each token of the first image: the mean over its channels, which all lie at
        # the same place. Tokens from nowhere are NaN; they have to come first.
        places = coordinates[0].mean(-1).flatten()
        outside = places.isnan()
        prefix = int(outside.sum())
        if not prefix <= min(_MAX_PREFIX, len(places) - 1) or not bool(outside[:prefix].all()):
            return None
        rows, row = torch.unique((places[prefix:].real * _FINE).round(), return_inverse=True)
        columns, column = torch.unique((places[prefix:].imag * _FINE).round(), return_inverse=True)
        # The distinct y and x make the axes of a grid; every cell of it must be there just once.
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
        # Without a vote the shape decides: two equal axes are those of a square image's grid.
        vote = self._vote(value)
        return vote < 0 if vote else not (a == b != c)

    def _vote(self, value: int) -> int:
        """Ask what consumes and what makes a value: below 0 for axis 1, above 0 for the last."""
        return self._consumers(value) or self._producers(value)

    def _consumers(self, value: int, depth: int = 12) -> int:
        """Follow a value forward through operations that keep its shape."""
        if depth == 0:
            return 0
        values, users = self._recording.values, self._users[value]
        said = (_says(op) for op in users if op.args and op.args[0] == Ref(value))
        # None of them says anything: the vote of what comes out of those that keep the shape.
        behind = (
            self._consumers(number, depth - 1)
            for op in users
            if op.name not in _MOVES
            for number in refs_in(op.output)
            if values[number].shape == values[value].shape
        )
        return next(filter(None, said), 0) or next(filter(None, behind), 0)

    def _producers(self, value: int, depth: int = 12) -> int:
        """Follow a value backward through operations that keep its shape."""
        values, op = self._recording.values, self._recording.maker(value)
        if op is None or depth == 0:
            return 0
        if isinstance(op.function, PackMaps):
            return -1
        if op.name in _MOVES:
            return -_says(op)
        before = (
            self._producers(number, depth - 1)
            for number in op.inputs
            if values[number].shape == values[value].shape
        )
        return _says(op) or next(filter(None, before), 0)

    def _grid(self, value: int, tokens: int) -> Placed | None:
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
                    return (height, width), prefix, None
        return self._even_grid(tokens)

    def _even_grid(self, tokens: int) -> Placed | None:
        """Find a grid of square patches that fits, with the fewest prefix tokens."""
        height, width = self._recording.values[0].shape[2:]
        sizes = range(2, min(height, width) // 2 + 1)
        grids = [(height // s, width // s) for s in sizes if height % s == width % s == 0]
        fits = [(tokens - rows * columns, -rows, -columns) for rows, columns in grids]
        fits = [fit for fit in fits if 0 <= fit[0] <= _MAX_PREFIX]
        if not fits:
            return None
        prefix, rows, columns = min(fits)
        return (-rows, -columns), prefix, None


def _says(op: Operation) -> int:
    """Say where an operation has its input's channels: below 0 at axis 1, above 0 at the last."""
    if op.function in _FIRST:
        return -1
    if op.function in _LAST:
        return 1
    if op.name != "permute":
        return 0
    axes = op.args[1] if len(op.args) == 2 else op.args[1:] or op.kwargs.get("dims", ())
    if not isinstance(axes, tuple | list):
        axes = op.args[1:]
    # Counted from the front.
    return _PERMUTED.get(tuple(int(a) % len(axes) for a in axes if isinstance(a, int)), 0)
