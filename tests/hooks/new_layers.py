"""A network of a pre-trained layer and a new one, and what hooks are told of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo_search.hooks import Context, Piece


def network() -> nn.Sequential:
    """A pre-trained layer and a new one."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def context(net: nn.Sequential, **more: Any) -> Context:
    return Context("candidate", "net", (Piece("1", net[1]),), **more)
