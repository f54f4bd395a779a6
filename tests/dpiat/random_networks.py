"""Random networks for the tests of DPIAT."""

from __future__ import annotations

import itertools
import math

import torch
from hypothesis import strategies as st
from torch import nn

from zoo_search.dpiat.layers import Layer
from zoo_search.dpiat.standardize import Block


@st.composite
def networks(draw: st.DrawFn, most: int = 3) -> list[Block]:
    """Up to ``most`` blocks of up to ``most`` layers of two kinds, without values."""
    kinds = st.sampled_from(["linear", "conv2d"])
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 4))
    layer = st.tuples(kinds, shapes).map(
        lambda t: Layer("x", t[0], {"weight": torch.empty(t[1], device="meta")})
    )
    block = st.lists(layer, min_size=1, max_size=most).map(tuple)
    return draw(st.lists(block, min_size=1, max_size=most))


def shape_score(t: Layer, s: Layer) -> float:
    """Eq. 1 as it is written."""
    if t.kind != s.kind:
        return 0.0
    return math.prod(min(x / y, y / x) for x, y in zip(t.shape, s.shape, strict=True))


def filled(module: nn.Module, seed: int) -> nn.Module:
    """Give every parameter and buffer seeded values between 0.1 and 1.1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return module


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Random values everywhere, the running statistics included."""
    for part in filled(module, seed).modules():
        if isinstance(part, nn.BatchNorm2d):
            part.num_batches_tracked.fill_(seed)
    return module
