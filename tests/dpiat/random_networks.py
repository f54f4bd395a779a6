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
