"""The layer at a joint: it takes what one block gives and makes what the next one expects.

DeRy section 3.1: "For two consecutive layers with dimension mismatch, we add a single stitching
layer with 1 × 1 convolution operation to adjust the feature size."
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.linegraph.graph import Cut
from zoo_search.linegraph.layout import from_nchw, to_nchw


class Stitch(nn.Module):
    """A 1×1 convolution on channels with the change of layout, grid and prefix tokens around it.

    The tensor goes through the form ``[B, C, H, W]``. The grid is shrunk by area averaging and
    grown bilinearly; both commute with a 1×1 convolution, so that runs on the smaller grid.
    Prefix tokens: token ``p`` of the next block is a linear map (of its own for each ``p``) of
    token ``p`` of the block before, or, where that has none, of the mean over its grid. Prefix
    tokens that the next block does not take are dropped.
    """

    def __init__(self, before: Cut, after: Cut) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.map = nn.Conv2d(before.channels, after.channels, kernel_size=1)
        self.prefix = nn.ModuleList(
            nn.Linear(before.channels, after.channels) for _ in range(after.prefix_tokens)
        )
        # Resizing and a 1×1 convolution commute, so the convolution runs on the smaller grid.
        self._shrink_first = math.prod(after.grid) <= math.prod(before.grid)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, *before.shape]`` to ``[B, *after.shape]``."""
        grid, tokens = to_nchw(x, self.before)
        if self._shrink_first:
            out = self.map(resize(grid, self.after.grid))
        else:
            out = resize(self.map(grid), self.after.grid)
        prefix = None
        if len(self.prefix):
            sources = prefix_sources(grid, tokens, len(self.prefix))
            prefix = torch.stack(
                [linear(source) for linear, source in zip(self.prefix, sources, strict=True)], dim=1
            )
        return from_nchw(out, prefix, self.after)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> Stitch:
        """Fill with Kaiming's normal initialisation for a linear layer, biases 0; return self."""
        for layer in (self.map, *self.prefix):
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear", generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        return self

    def extra_repr(self) -> str:
        """Say what is joined."""
        return f"{_describe(self.before)} -> {_describe(self.after)}"


def resize(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bring ``[B, C, H, W]`` to ``grid``: shrinking by area means, growing bilinearly.

    Every output value is a weighted mean of input values of its own channel, with weights that
    do not depend on the channel, so this commutes with any 1×1 convolution.
    """
    height, width = int(x.shape[-2]), int(x.shape[-1])
    shrunk = (min(height, grid[0]), min(width, grid[1]))
    if shrunk != (height, width):
        x = F.adaptive_avg_pool2d(x, shrunk)
    if shrunk != tuple(grid):
        x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
    return x


def prefix_sources(grid: Tensor, tokens: Tensor | None, count: int) -> list[Tensor]:
    """Return what each of ``count`` prefix tokens is made from, each ``[B, C]``.

    Token ``p`` comes from token ``p`` of ``tokens`` ``[B, P, C]``, or from the mean over the grid
    ``[B, C, H, W]`` where there is none.
    """
    sources = [] if tokens is None else [tokens[:, p] for p in range(tokens.shape[1])][:count]
    if len(sources) < count:
        sources += [grid.mean(dim=(-2, -1))] * (count - len(sources))
    return sources


def stitch_cost(before: Cut, after: Cut) -> tuple[int, int]:
    """Return parameters and multiply-adds for one image of ``Stitch(before, after)``."""
    weights = before.channels * after.channels
    maps = 1 + after.prefix_tokens
    positions = min(math.prod(before.grid), math.prod(after.grid)) + after.prefix_tokens
    return maps * (weights + after.channels), positions * weights


def _describe(cut: Cut) -> str:
    prefix = f"+{cut.prefix_tokens}" if cut.prefix_tokens else ""
    return f"{cut.layout} {cut.channels}x{cut.grid[0]}x{cut.grid[1]}{prefix}"
