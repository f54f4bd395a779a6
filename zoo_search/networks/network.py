"""The reassembled network as an ordinary module."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo_search.data.preprocess import Preprocess
from zoo_search.hooks.report import HookReport
from zoo_search.linegraph.graph import Cut
from zoo_search.linegraph.layout import to_nchw
from zoo_search.networks.recipe import Recipe
from zoo_search.training.machine import channels_last


class Pool(nn.Module):
    """Features at a cut to one vector: the first prefix token, or the mean over the grid.

    The first prefix token is the class token, which is what a model that has one reads out.
    """

    def __init__(self, cut: Cut) -> None:
        super().__init__()
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, *cut.shape]`` to ``[B, cut.channels]``."""
        grid, prefix = to_nchw(x, self.cut)
        return grid.mean(dim=(-2, -1)) if prefix is None else prefix[:, 0]


class Tap(Pool):
    """What the head takes from a block before the last one: pooled, in a tensor of its own.

    The block behind may work in place on the features.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, *cut.shape]`` to ``[B, cut.channels]``."""
        pooled = super().forward(x)
        return pooled.clone() if self.cut.prefix_tokens else pooled  # a mean is no view


class ReassembledNet(nn.Module):
    """Blocks of zoo models with stitches between them and a head.

    Attributes:
        recipe: What it was made from.
        blocks: One module a block; each gets exactly the shape that it was traced with.
        stitches: One module a joint; ``nn.Identity`` where the two blocks are neighbours in their
            own model.
        taps: What the head reads besides the last block: one :class:`Tap` for each block before it,
            or none.
        pool: Features to one vector; ``nn.Identity`` with the source's head.
        head: ``nn.Linear`` for the target's classes, on what the taps give, block by block, and the
            last block's pooled features; or the head of the last block's model.
        transform: The preprocessing of the first block's model, or None if it has none.
        cut: The cut that the features come out at.
        input_size: ``(C, H, W)`` of the images.
        init_reports: What the init hooks did to it.
    """

    def __init__(
        self,
        recipe: Recipe,
        blocks: Sequence[nn.Module],
        stitches: Sequence[nn.Module],
        head: nn.Module,
        cut: Cut,
        input_size: tuple[int, int, int],
        transform: Preprocess | None = None,
        tapped: Sequence[Cut] = (),
    ) -> None:
        super().__init__()
        if len(stitches) != len(blocks) - 1:
            raise ValueError(f"{len(blocks)} blocks need {len(blocks) - 1} stitches.")
        if len(tapped) not in (0, len(stitches)):
            raise ValueError(f"{len(blocks)} blocks need {len(stitches)} taps, or none.")
        self.recipe = recipe
        self.blocks = nn.ModuleList(blocks)
        self.stitches = nn.ModuleList(stitches)
        self.taps = nn.ModuleList(Tap(own) for own in tapped)
        self.pool = Pool(cut) if recipe.head == "target" else nn.Identity()
        self.head = head
        self.cut = cut
        self._read = (*tapped, cut)  # the cuts that the head reads
        self.input_size = input_size
        self.transform = transform
        self.init_reports: tuple[HookReport, ...] = ()

    @property
    def widths(self) -> list[int]:
        """How many features the target's head reads of each block that it reads."""
        return [cut.channels for cut in self._read]

    def forward_features(self, x: Tensor) -> Tensor:
        """Map normalised images ``[B, C, H, W]`` to the last block's features."""
        return self.read(x)[0]

    def forward_head(self, features: Tensor, taps: Sequence[Tensor] = ()) -> Tensor:
        """Map the last block's features, and what the taps gave, to logits ``[B, classes]``."""
        out: Tensor = self.head(self.pooled(features, taps))
        return out

    def read(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map normalised images to the last block's features and what the taps give, if any."""
        return self._through(self.blocks[0](x), [], 1, len(self.blocks))

    def pooled(self, features: Tensor, taps: Sequence[Tensor] = ()) -> Tensor:
        """Return what the head takes: what the taps gave, then the last block's, pooled.

        Raises:
            ValueError: If the head reads other blocks, too, and what they gave is missing.
        """
        if len(taps) != len(self.taps):
            raise ValueError(f"the head reads {len(self.taps)} more blocks, not {len(taps)}")
        own: Tensor = self.pool(features)
        return torch.cat([*taps, own], dim=1) if taps else own

    def before(self, x: Tensor, blocks: int) -> Tensor:
        """Map normalised images to what the first so many blocks give (one or more).

        Where there are taps, each image is one row ``[B, …]``: the features, then what the taps of
        the blocks before the last of these gave.
        """
        features, taps = self._through(self.blocks[0](x), [], 1, blocks)
        return torch.cat([features.flatten(1), *taps], dim=1) if self.taps else features

    def after(self, x: Tensor, blocks: int) -> Tensor:
        """Map what :meth:`before` gave for the first so many blocks to logits."""
        taps: list[Tensor] = []
        if self.taps:
            *before, own = self._read[:blocks]
            sizes = [math.prod(own.shape), *(cut.channels for cut in before)]
            flat, *taps = torch.split(x, sizes, dim=1)
            x = channels_last(flat.reshape(-1, *own.shape))
        return self.forward_head(*self._through(x, taps, blocks, len(self.blocks)))

    def _through(
        self, x: Tensor, taps: list[Tensor], first: int, stop: int
    ) -> tuple[Tensor, list[Tensor]]:
        for place in range(first, stop):
            if self.taps:
                taps = [*taps, self.taps[place - 1](x)]
            x = self.blocks[place](self.stitches[place - 1](x))
        return x, taps

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``[B, C, H, W]`` to logits ``[B, classes]``."""
        return self.forward_head(*self.read(x))
