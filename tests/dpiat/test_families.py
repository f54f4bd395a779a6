"""Families of architectures that the paper left out: transformers, MLP nets, other convolutions."""

from __future__ import annotations

import pytest
import timm
import torch
from random_networks import filled
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from torch import nn

from zoo_search import dpiat


def vit(**kwargs: object) -> nn.Module:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, **kwargs}
    module: nn.Module = timm.create_model("vit_tiny_patch16_224", **sizes)
    return module


def mixer(size: int, width: int, depth: int, **kwargs: object) -> nn.Module:
    options = {"img_size": size, "patch_size": 32, "embed_dim": width, "num_blocks": depth}
    return MlpMixer(**options, **kwargs)


RESMLP = {"block_layer": ResBlock, "norm_layer": Affine, "mlp_ratio": 4}
# What bare parameter the family has, a small network of it, and a relative.
BARE = {
    "vit": "cls_token",
    "vit_scale": "gamma",
    "convnext": "gamma",
    "swin": "relative_position_bias_table",
    "resmlp": "alpha",
}
PAIRS = {
    "vit": (vit, lambda: vit(embed_dim=32, depth=3, num_heads=4, img_size=48, reg_tokens=1)),
    "vit_scale": (lambda: vit(init_values=0.1), lambda: vit(init_values=0.1, embed_dim=36)),
    "convnext": (
        lambda: timm.create_model("convnext_atto", dims=(8, 16, 24, 32), depths=(1, 1, 2, 1)),
        lambda: timm.create_model("convnext_atto", dims=(10, 20, 30, 40), depths=(1, 2, 3, 1)),
    ),
    "swin": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=56, embed_dim=12, num_heads=(1, 2, 4, 8)
        ),
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=56, embed_dim=16, num_heads=(1, 2, 4, 8)
        ),
    ),
    "mixer": (lambda: mixer(64, 16, 2), lambda: mixer(96, 24, 3)),
    "resmlp": (lambda: mixer(64, 16, 2, **RESMLP), lambda: mixer(64, 24, 3, **RESMLP)),
}


@pytest.mark.parametrize("family", list(PAIRS))
def test_transformers_and_mlp_nets_transfer(family: str) -> None:
    """A wider, deeper relative is filled nearly everywhere, its bare parameters included."""
    small, large = (make() for make in PAIRS[family])
    report = dpiat.transfer(filled(small, 1), filled(large, 2))
    assert len(report.layers) >= 0.8 * (len(report.layers) + len(report.untouched))
    kinds = {x.kind for x in report.layers}
    assert {"linear", "conv2d"} & kinds
    assert family not in BARE or f"parameter {BARE[family]}" in kinds
    assert report.coverage > 0.15
    assert all(x.copied <= x.total for x in report.layers)


@pytest.mark.parametrize("wide", [nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose3d])
def test_convolutions_of_all_dimensions(wide: type[nn.Module]) -> None:
    source, target = (
        nn.Sequential(wide(3, n, 3), nn.GroupNorm(1, n), wide(n, 2, 1)) for n in (4, 6)
    )
    before = target[0].bias[0].item()
    report = dpiat.transfer(filled(source, 1), target)
    assert report.untouched == ()
    assert [x.target for x in report.layers] == ["0", "1", "2"]
    transposed = wide in (nn.ConvTranspose1d, nn.ConvTranspose3d)
    crop = (slice(None), slice(1, 5)) if transposed else (slice(1, 5),)
    assert torch.equal(target[0].weight[crop], source[0].weight)
    assert torch.equal(target[0].bias[1:5], source[0].bias)
    assert torch.equal(target[1].weight[1:5], source[1].weight)
    assert target[0].bias[0].item() == before
