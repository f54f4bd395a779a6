"""Cuts of every layout, and tensors at them."""

from __future__ import annotations

import torch

from zoo_search.linegraph import Cut

CUTS = [
    Cut(1, "a", "nchw", 6, (8, 8)),
    Cut(1, "b", "nchw", 10, (3, 5)),
    Cut(1, "c", "nhwc", 8, (4, 4)),
    Cut(1, "d", "tokens", 12, (4, 4), 0),
    Cut(1, "e", "tokens", 8, (7, 7), 1),
    Cut(1, "f", "tokens", 6, (2, 8), 3),
]


def tensor_at(cut: Cut, batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, *cut.shape, generator=torch.Generator().manual_seed(seed))
