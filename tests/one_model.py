"""A zoo of one small model, and what its module should be."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from zoo_search.zoo import ZooModel, load_zoo

ARCH = "test_resnet"  # timm's own small net for tests: 0.5 M parameters
HUB_REPO = "timm/test_resnet.r160_in1k"


def load_one(**entry: Any) -> ZooModel:
    return load_zoo({"name": "t", "dataset": "digits", "zoo": {"a": {"arch": ARCH, **entry}}})["a"]


def net_of(seed: int = 5, **kwargs: Any) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(ARCH, **kwargs).eval()


def same(a: nn.Module, b: nn.Module) -> bool:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(a(x), b(x))
