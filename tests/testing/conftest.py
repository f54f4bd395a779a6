"""Digits for the suites."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """Twenty-four handwritten digits 0, 1 and 2: uint8 ``[24, 3, 32, 32]`` and their classes."""
    from sklearn.datasets import load_digits

    data = load_digits(n_class=3)
    pixels = torch.from_numpy(data.images[:24]) * (255 / 16)
    grey = pixels.round().to(torch.uint8)[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3)
    return grey.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(data.target[:24])


@pytest.fixture(scope="session")
def digit_maps() -> list[Tensor]:
    """Maps ``[120, C, H, W]`` of five cuts of a network on 120 digits."""
    import timm
    from sklearn.datasets import load_digits

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = timm.create_model("mobilenetv3_small_050", features_only=True).eval()
        images = torch.tensor(load_digits().images[:120] / 16, dtype=torch.float32)
        images = images[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3)
        maps: list[Tensor] = model(images.expand(-1, 3, -1, -1))
    return maps
