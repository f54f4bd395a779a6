"""Pooling, and features of a line graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.linegraph import Cut, LineGraph, Node, trace
from zoo_search.similarities.estimators.features import (
    check_rules,
    cut_features,
    evaluating,
    pool,
    widths,
)
from zoo_search.similarities.estimators.registry import get_metric


def make_graph(*modules: nn.Module) -> LineGraph:
    nodes = tuple(Node(i, f"n{i}", m, 0, 0) for i, m in enumerate(modules))
    cuts = tuple(Cut(i, f"c{i}", "nchw", 3, (4, 4)) for i in range(len(nodes) + 1))
    return LineGraph("g", (3, 4, 4), nodes, cuts, nn.Identity(), 0, 0)


def test_pool_gives_the_same_for_every_layout() -> None:
    x = torch.randn(2, 3, 4, 5)
    tokens = torch.cat([torch.full((2, 2, 3), 9.0), x.flatten(2).mT], dim=1)
    mean = x.mean((2, 3))
    nhwc = x.permute(0, 2, 3, 1)
    assert torch.allclose(pool(x, Cut(1, "", "nchw", 3, (4, 5))), mean)
    assert torch.allclose(pool(nhwc, Cut(1, "", "nhwc", 3, (4, 5))), mean)
    cut = Cut(1, "", "tokens", 3, (4, 5), prefix_tokens=2)
    assert torch.allclose(pool(tokens, cut), mean, atol=1e-6)
    assert (pool(tokens, cut, prefix="cls") == 9).all()
    assert (pool(tokens, cut, "none") == x.flatten(2).mT.flatten(1)).all()
    assert pool(tokens, cut, "none", prefix="cls").tolist() == [[9.0] * 3] * 2


@pytest.mark.parametrize("pooling", ["avg", "none"])
@pytest.mark.parametrize("prefix", ["mean", "cls"])
def test_widths_are_those_of_the_features(pooling: str, prefix: str) -> None:
    import timm

    for name, size in (("vit_tiny_patch16_224", 32), ("resnet18", 32)):
        extra = {} if name == "resnet18" else {"img_size": size}
        graph = trace(timm.create_model(name, **extra).eval(), (3, size, size))
        images = torch.randn(2, 3, size, size)
        rules = {"pooling": pooling, "prefix": prefix}
        with evaluating(graph):
            found = dict(cut_features(graph, images.__getitem__, ["a", "b"], **rules))
        assert [found[i].shape[1] for i in range(len(found))] == widths(graph, **rules)


def test_the_class_token_is_what_the_head_of_a_vit_reads() -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32).eval()
    graph = trace(model, (3, 32, 32))
    images = torch.randn(3, 3, 32, 32)
    with evaluating(graph):
        *_, (_, features) = cut_features(graph, lambda rows: images[rows], "abc", prefix="cls")
        expected = model.forward_features(images)[:, 0]
    if graph.cuts[-1].name.startswith("blocks"):  # a final norm belongs to the head
        features = model.norm(features)
    assert torch.allclose(features, expected, atol=1e-5)


def test_memory_format_and_chunk_do_not_change_the_features() -> None:
    torch.manual_seed(0)
    graph = make_graph(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
    images = torch.randn(10, 3, 4, 4)
    with evaluating(graph):
        found = [
            dict(cut_features(graph, lambda rows: images[rows], [""] * 10, pooling="none", **how))
            for how in ({}, {"channels_last": True}, {"chunk": 3})
        ]
    for other in found[1:]:
        assert all(torch.allclose(found[0][i], other[i], atol=1e-6) for i in range(3))


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(UserError, match="pool cannot be 'average'"):
        check_rules("average", "mean")
    with pytest.raises(UserError, match="Did you mean 'cls'"):
        check_rules("avg", "clss")


def test_nan_names_model_cut_and_sample() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sqrt()

    images = torch.rand(6, 3, 4, 4)
    images[4, 0, 0, 0] = -1
    graph = make_graph(nn.Identity(), Root())
    with pytest.raises(UserError, match=r"Model 'net'.*cut 2 \(c2\).*sample 'e'"):
        list(cut_features(graph, lambda rows: images[rows], "abcdef", name="net"))


def test_modes_and_gradients_come_back() -> None:
    batch_norm, dropout = nn.BatchNorm2d(3).train(), nn.Dropout(0.5).eval()
    graph = make_graph(batch_norm, dropout)
    with pytest.raises(RuntimeError, match="inside"), evaluating(graph):
        assert not batch_norm.training
        assert not torch.is_grad_enabled()
        raise RuntimeError("inside")
    assert batch_norm.training
    assert not dropout.training
    assert torch.is_grad_enabled()


def test_chunks_do_not_change_the_embedding() -> None:
    images = torch.randn(100, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    graph = make_graph(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
    with evaluating(graph):
        found = cut_features(graph, lambda rows: images[rows], [""] * 100)
        whole = [get_metric("cka").embed(x) for _, x in found]
        features = [x.mean((2, 3)) for _, x in graph.activations(images)]
    for e, x in zip(whole, features, strict=True):
        assert torch.allclose(e.rows, get_metric("cka").embed(x).rows, atol=1e-5)
