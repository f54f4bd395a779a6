"""The reassembled network as an ordinary module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from zoo_search.data.preprocess import Preprocess
from zoo_search.hooks.report import HookReport
from zoo_search.linegraph.graph import Cut
from zoo_search.linegraph.layout import to_nchw
from zoo_search.networks.recipe import Recipe


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


class ReassembledNet(nn.Module):
    """Blocks of zoo models with stitches between them and a head.

    Attributes:
        recipe: What it was made from.
        blocks: One module a block; each gets exactly the shape that it was traced with.
        stitches: One module a joint; ``nn.Identity`` where the two blocks are neighbours in their
            own model.
        pool: Features to one vector; ``nn.Identity`` with the source's head.
        head: ``nn.Linear`` for the target's classes, or the head of the last block's model.
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
    ) -> None:
        super().__init__()
        if len(stitches) != len(blocks) - 1:
            raise ValueError(f"{len(blocks)} blocks need {len(blocks) - 1} stitches.")
        self.recipe = recipe
        self.blocks = nn.ModuleList(blocks)
        self.stitches = nn.ModuleList(stitches)
        self.pool = Pool(cut) if recipe.head == "target" else nn.Identity()
        self.head = head
        self.cut = cut
        self.input_size = input_size
        self.transform = transform
        self.init_reports: tuple[HookReport, ...] = ()

    def forward_features(self, x: Tensor) -> Tensor:
        """Map normalised images ``[B, C, H, W]`` to the last block's features."""
        return self._through(self.blocks[0](x), 1, len(self.blocks))

    def forward_head(self, features: Tensor) -> Tensor:
        """Map the last block's features to logits ``[B, classes]``."""
        out: Tensor = self.head(self.pool(features))
        return out

    def before(self, x: Tensor, blocks: int) -> Tensor:
        """Map normalised images to what the first so many blocks give (one or more)."""
        return self._through(self.blocks[0](x), 1, blocks)

    def after(self, x: Tensor, blocks: int) -> Tensor:
        """Map what the first so many blocks give to logits."""
        return self.forward_head(self._through(x, blocks, len(self.blocks)))

    def _through(self, x: Tensor, first: int, stop: int) -> Tensor:
        for place in range(first, stop):
            x = self.blocks[place](self.stitches[place - 1](x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``[B, C, H, W]`` to logits ``[B, classes]``."""
        return self.forward_head(self.forward_features(x))
