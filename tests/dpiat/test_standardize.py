"""Standardization of real and hand-written modules."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from zoo_search.core.errors import UserError
from zoo_search.dpiat.standardize import standardize


def names(module: nn.Module) -> list[list[str]]:
    return [[layer.name for layer in block] for block in standardize(module)]


def test_efficientnet_as_in_the_paper() -> None:
    """Figures 7 and 8: single layers at both ends, one block per inverted residual."""
    with torch.device("meta"):
        blocks = names(timm.create_model("efficientnet_b0"))
    assert blocks[:2] == [["conv_stem"], ["bn1"]]
    assert blocks[-3:] == [["conv_head"], ["bn2"], ["classifier"]]
    inner = [name.removeprefix("blocks.1.0.") for name in blocks[3]]
    assert inner == [
        *("conv_pw", "bn1", "conv_dw", "bn2"),
        *("se.conv_reduce", "se.conv_expand", "conv_pwl", "bn3"),
    ]
    assert len(blocks) == 2 + 16 + 3


@pytest.mark.parametrize(
    "arch",
    [
        *("resnet18", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
        *("eva02_tiny_patch14_224", "regnetx_002", "tresnet_m", "sequencer2d_s"),
        "xcit_nano_12_p8_224",
    ],
)
def test_every_parameter_lies_in_exactly_one_layer(arch: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(arch)
    tensors = [t for b in standardize(model) for layer in b for t in layer.tensors.values()]
    assert len({id(t) for t in tensors}) == len(tensors)
    assert {id(p) for p in model.parameters()} <= {id(t) for t in tensors}


def test_attention_and_bare_parameters() -> None:
    with torch.device("meta"):
        model = torchvision.models.vit_b_16()
    layers = {layer.name: layer for block in standardize(model) for layer in block}
    fused = layers["encoder.layers.encoder_layer_0.self_attention.in_proj"]
    assert (fused.kind, fused.shape, fused.parts) == ("linear", (3 * 768, 768), 3)
    assert set(fused.tensors) == {"weight", "bias"}
    assert layers["class_token"].kind == "parameter cls_token"  # timm's name for it
    assert layers["encoder.pos_embedding"].shape == (1, 197, 768)


def test_kinds() -> None:
    module = nn.Sequential(
        nn.Conv1d(2, 3, 1),
        nn.Conv3d(2, 3, 1),
        nn.ConvTranspose2d(2, 3, 1),
        nn.GroupNorm(1, 3),
        nn.BatchNorm1d(3, affine=False),
        nn.InstanceNorm2d(3),
        FrozenBatchNorm2d(3),
        timm.layers.LayerNorm2d(3),
        timm.layers.BatchNormAct2d(3),
        timm.layers.RmsNorm(3),
        nn.EmbeddingBag(4, 3),
        nn.Linear(0, 3),
    )
    kinds = [layer.kind for block in standardize(module) for layer in block]
    assert kinds == [
        *("conv1d", "conv3d", "conv_transpose2d", "group_norm", "batch_norm", "batch_norm"),
        *("layer_norm", "batch_norm", "rms_norm", "embedding", "linear"),
    ]


def test_tied_weights_count_once() -> None:
    embed, head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    head.weight = embed.weight
    assert [x.kind for b in standardize(nn.Sequential(embed, head)) for x in b] == ["embedding"]


def test_a_module_used_twice_counts_once() -> None:
    norm = nn.BatchNorm2d(3)
    assert names(nn.Sequential(norm, nn.Sequential(norm, nn.Conv2d(3, 3, 1)))) == [["0"], ["1.1"]]


def test_wrappers_do_not_change_the_blocks() -> None:
    model = timm.create_model("resnet18", device="meta")
    inside = [[f"0.0.{name}" for name in block] for block in names(model)]
    assert names(nn.Sequential(nn.Sequential(model))) == inside


def test_weight_norm_matches_the_true_parameters() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    tensors = [t for b in standardize(conv) for x in b for t in x.tensors.values()]
    assert {id(t) for t in tensors} == {id(p) for p in conv.parameters()}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.ReLU()), "no parameters"),
        (nn.Linear(2, 2).to(torch.complex64), "complex64"),
        (nn.LazyLinear(3), "lazy"),
        (torch.jit.script(nn.Linear(2, 2)), "TorchScript"),
        ("resnet18", "torch.nn.Module"),
    ],
)
def test_what_cannot_be_standardized(module: nn.Module, words: str) -> None:
    with pytest.raises(UserError, match=words):
        standardize(module)


def test_quantised_weights_are_refused() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    weight = module[1].weight
    weight.requires_grad_(False)
    module[1].weight = nn.Parameter(weight.to(torch.int8), requires_grad=False)
    with pytest.raises(UserError, match=r"1\.weight is int8"):
        standardize(module)
