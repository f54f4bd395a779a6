"""Several tensors as one and back, without loss: only places change, and padding is cropped again.

Maps of different resolutions meet on the coarsest grid by space-to-depth; tokens inside the cells
of a token sequence become channels of their cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class PackMaps:
    """Joins maps ``[B, C_i, H_i, W_i]`` on the coarsest grid; ``[B, sum C_i f_i², *grid]``.

    ``f_i = ceil(H_i / grid[0])`` pixels a side go into one cell, as its channels; a map whose
    size is no multiple is padded with zeros below and to the right.
    """

    grid: tuple[int, int]

    def factor(self, size: Sequence[int]) -> int:
        """Return how many pixels a side of a map of this size ``(H, W)`` go into one cell."""
        return max(-(-size[0] // self.grid[0]), -(-size[1] // self.grid[1]))

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """Join the maps."""
        parts = []
        for x in maps:
            factor = self.factor(x.shape[2:])
            # [C, f H', f W'] -> [C f², H', W']: the pixels of a cell become channels of the cell.
            below, right = factor * self.grid[0] - x.shape[2], factor * self.grid[1] - x.shape[3]
            parts.append(F.pixel_unshuffle(F.pad(x, (0, right, 0, below)), factor))
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class UnpackMaps:
    """Undoes :class:`PackMaps` for maps of the shapes ``(C_i, H_i, W_i)``."""

    pack: PackMaps
    shapes: tuple[tuple[int, int, int], ...]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps, each in memory of its own: the model may write into one of them."""
        factors = [self.pack.factor(shape[1:]) for shape in self.shapes]
        sizes = [shape[0] * factor**2 for shape, factor in zip(self.shapes, factors, strict=True)]
        maps = []
        for part, factor, shape in zip(
            torch.split(x, sizes, dim=1), factors, self.shapes, strict=True
        ):
            whole = F.pixel_shuffle(part, factor)[:, :, : shape[1], : shape[2]]
            maps.append(whole.clone(memory_format=torch.contiguous_format))
        return tuple(maps)


@dataclass(frozen=True)
class PackTokens:
    """Puts the tokens inside each cell next to the token of the cell.

    Takes ``[B, prefix + N, C]`` at place ``main`` and ``[B * N, n_i, c_i]`` elsewhere; gives
    ``[B, prefix + N, C + sum n_i c_i]``, zeros where a prefix token has no cell.
    """

    main: int

    def __call__(self, streams: Sequence[Tensor]) -> Tensor:
        """Join the streams."""
        cells = streams[self.main]
        parts = [cells]
        for number, x in enumerate(streams):
            if number != self.main:
                # [B N, n, c] -> [B, N, n c], with zeros before it where prefix tokens have no cell.
                inside = x.reshape(cells.shape[0], -1, x.shape[1] * x.shape[2])
                parts.append(F.pad(inside, (0, 0, cells.shape[1] - inside.shape[1], 0)))
        return torch.cat(parts, dim=2)


@dataclass(frozen=True)
class UnpackTokens:
    """Undoes :class:`PackTokens` for streams of the shapes ``(n_i, c_i)``, ``N`` cells."""

    pack: PackTokens
    cells: int
    shapes: tuple[tuple[int, int], ...]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the streams, each in memory of its own."""
        main = self.pack.main
        others = [number for number in range(len(self.shapes)) if number != main]
        inside = [self.shapes[number][0] * self.shapes[number][1] for number in others]
        first, *rest = torch.split(x, [self.shapes[main][1], *inside], dim=2)
        # The zeros of the prefix tokens, at the front, are left behind.
        streams = [
            part[:, part.shape[1] - self.cells :].reshape(-1, *self.shapes[number])
            for number, part in zip(others, rest, strict=True)
        ]
        streams.insert(main, first)
        return tuple(stream.clone(memory_format=torch.contiguous_format) for stream in streams)
