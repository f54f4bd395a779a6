"""Layouts against what timm says of its own models, and against where the pixels are."""

from __future__ import annotations

import pytest
import timm
import torch

from zoo_search.linegraph import Cut, LineGraph, from_nchw, to_nchw, trace


def graph_of(name: str, size: int = 224) -> tuple[LineGraph, torch.nn.Module]:
    """Trace an architecture on the meta device."""
    with torch.device("meta"):
        model = timm.create_model(name)
    return trace(model, (3, size, size), name), model


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "vit_medium_patch16_reg4_gap_256",
        "eva02_tiny_patch14_224",
        "mixer_s32_224",
        "cait_xxs24_224",
    ],
)
def test_tokens(name: str) -> None:
    size = timm.get_pretrained_cfg(name).input_size[1]
    graph, model = graph_of(name, size)
    cut = graph.cuts[1]
    assert cut.layout == "tokens"
    embed = model.stem if name.startswith("mixer") else model.patch_embed
    assert cut.channels == embed.proj.out_channels
    assert cut.grid == tuple(embed.grid_size)
    expected = getattr(model, "num_prefix_tokens", 0)
    assert cut.prefix_tokens == (0 if name.startswith(("mixer", "cait")) else expected)
    assert cut.order is None


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("resnet18", "nchw"),
        ("convnext_atto", "nchw"),
        ("efficientnet_b0", "nchw"),
        ("swin_tiny_patch4_window7_224", "nhwc"),
        ("mambaout_femto", "nhwc"),
        ("focalnet_tiny_srf", "nchw"),
    ],
)
def test_maps(name: str, layout: str) -> None:
    graph, model = graph_of(name)
    inner = graph.cuts[1:]
    assert {cut.layout for cut in inner} == {layout}
    stages = {(info["num_chs"], 224 // info["reduction"]) for info in model.feature_info}
    last = {(cut.channels, cut.grid[0]) for cut in inner}
    assert len(stages & last) >= 3


def test_layout_may_change_inside_a_model() -> None:
    graph, _ = graph_of("tiny_vit_5m_224")
    assert {cut.layout for cut in graph.cuts} == {"nchw", "nhwc"}


@pytest.mark.parametrize("name", ["hiera_tiny_224", "nest_tiny"])
def test_order_of_the_tokens(name: str) -> None:
    """Features of an image that is lit in one corner stand out in that corner of the map."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    with torch.no_grad():
        model.pos_embed.zero_() if hasattr(model, "pos_embed") else None
    graph = trace(model, (3, 224, 224), name)
    cut = graph.cuts[1]
    assert cut.order is not None
    dark, lit = torch.zeros(2, 1, 3, 224, 224)
    lit[..., :32, 192:] = 3.0
    with torch.no_grad():
        change = graph.nodes[0](lit) - graph.nodes[0](dark)
    grid, _ = to_nchw(change, cut)
    strength = grid.square().sum(1)[0]
    rows = cut.grid[0] // 4
    assert strength[:rows, -rows:].mean() > 10 * strength[rows:, :-rows].mean()


def test_round_trip_of_every_layout() -> None:
    order = (0, 1, 4, 5, 2, 3, 6, 7)
    cuts = [
        Cut(1, "a", "nchw", 6, (2, 4)),
        Cut(1, "b", "nhwc", 6, (2, 4)),
        Cut(1, "c", "tokens", 6, (2, 4), 3),
        Cut(1, "d", "tokens", 6, (2, 4), 0, 1, order),
        Cut(1, "e", "windows", 6, (2, 4), 0, 2, order),
    ]
    for cut in cuts:
        x = torch.randn(5, *cut.shape)
        grid, prefix = to_nchw(x, cut)
        assert grid.shape == (5, 6, 2, 4)
        assert torch.equal(from_nchw(grid, prefix, cut), x)
    x = torch.arange(8.0).reshape(1, 8, 1).expand(1, 8, 6)
    assert to_nchw(x, cuts[3])[0][0, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_prefix_tokens_must_fit() -> None:
    cut = Cut(1, "c", "tokens", 6, (2, 4), 1)
    with pytest.raises(ValueError, match="has 1 prefix tokens, not 0"):
        from_nchw(torch.randn(1, 6, 2, 4), None, cut)
