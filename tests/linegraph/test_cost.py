"""Parameters and multiply-adds, against timm and torch's own counter."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zoo_search.linegraph import count, trace


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet50", 224),
        ("vit_tiny_patch16_224", 224),
        ("levit_128s", 224),
        ("efficientvit_b0", 96),
        ("coat_lite_tiny", 224),
        ("nf_regnet_b0", 96),
        ("pit_ti_224", 224),
        ("hrnet_w18_small", 224),
    ],
)
def test_nodes_sum_to_the_model(name: str, size: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval().requires_grad_(False)
        x = torch.empty(1, 3, size, size)
    graph = trace(model, (3, size, size))
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(x)
    assert graph.macs == pytest.approx(flops.get_total_flops() / 2, rel=1e-9, abs=len(graph))
    assert graph.params == sum(parameter.numel() for parameter in model.parameters())
    assert count(model, (3, size, size))[1] == flops.get_total_flops() // 2


def test_resnet50_has_4_09_giga_macs() -> None:
    with torch.device("meta"):
        graph = trace(timm.create_model("resnet50"), (3, 224, 224))
    assert round(graph.macs / 1e9, 2) == 4.09
    assert round(graph.params / 1e6, 2) == 25.56


def test_nodes_cost_what_they_cost_alone() -> None:
    with torch.device("meta"):
        graph = trace(timm.create_model("regnety_002"), (3, 64, 64))
    for node, cut in zip(graph.nodes, graph.cuts, strict=False):
        assert count(node.module, cut.shape) == (node.params, node.macs)
    assert count(graph.head, graph.cuts[-1].shape) == (graph.head_params, graph.head_macs)


def test_count_of_one_convolution() -> None:
    conv = nn.Conv2d(4, 8, 3, padding=1)
    assert count(conv, (4, 10, 10)) == (4 * 8 * 9 + 8, 4 * 8 * 9 * 100)
    assert conv.weight.device.type == "cpu"
