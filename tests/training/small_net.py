"""A small network in two halves, and digits."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from zoo_search.data.preprocess import Preprocess
from zoo_search.training.images import InMemory

SIZE = 16
TRANSFORM = Preprocess(size=(SIZE, SIZE))


class HalvedNet(nn.Module):
    """Three blocks, of which the first two are of one model, a stitch, a head."""

    def __init__(self, norm: bool = True, drop: float = 0.0) -> None:
        super().__init__()
        sizes = [(3, 8), (8, 12), (16, 16)]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, 2, 1, bias=not norm),
                nn.BatchNorm2d(after) if norm else nn.Identity(),
                nn.ReLU(),
                nn.Dropout(drop),
            )
            for before, after in sizes
        )
        self.stitches = nn.ModuleList([nn.Identity(), nn.Conv2d(12, 16, 1)])
        self.head = nn.Linear(16, 10)

    def before(self, x: Tensor, blocks: int) -> Tensor:
        return self.between(self.blocks[0](x), 1, blocks)

    def after(self, x: Tensor, blocks: int) -> Tensor:
        out: Tensor = self.head(self.between(x, blocks, 3).mean((2, 3)))
        return out

    def between(self, x: Tensor, first: int, stop: int) -> Tensor:
        for place in range(first, stop):
            x = self.blocks[place](self.stitches[place - 1](x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.before(x, 1), 1)


def make_net(norm: bool = True, drop: float = 0.0) -> HalvedNet:
    torch.manual_seed(7)
    return HalvedNet(norm, drop)


def digits(count: int = 200) -> InMemory:
    data = load_digits()
    grey = torch.from_numpy(data.images[:count]).float()[:, None] * (255 / 16)
    images = nn.functional.interpolate(grey, size=(SIZE, SIZE)).round().to(torch.uint8)
    return InMemory(
        images.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(data.target[:count]).long()
    )
