"""Nodes compose to the model, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import timm
import torch
from architectures import ARCHITECTURES, FAST, ONE_SIZE, OTHER_FEATURES
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.linegraph import LineGraph, from_nchw, to_nchw, trace


def randomised(name: str, **kwargs: Any) -> nn.Module:
    """Create a model whose zero-initialised parts (last norm scales, biases) do something."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **kwargs).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def check(
    model: nn.Module, graph: LineGraph, images: Tensor, batches: tuple[int, ...] = (1, 2, 5)
) -> None:
    """Compare features and logits at these batch sizes, and the layouts' round trips."""
    resized = F.interpolate(images, graph.input_size[1:], mode="bilinear", antialias=True)
    with torch.no_grad():
        for batch in batches:
            x = resized[:batch].clone()
            features = graph.features(x)
            expected = model.forward_features(x)  # type: ignore[operator]
            if graph.name not in OTHER_FEATURES:
                assert torch.equal(features, expected)
            assert torch.equal(graph.head(features), model(x))
            assert torch.equal(x, resized[:batch])
        for cut, (_, tensor) in zip(graph.cuts, graph.activations(x), strict=True):
            assert tuple(tensor.shape[1:]) == cut.shape, cut
            grid, prefix = to_nchw(tensor, cut)
            assert tuple(grid.shape) == (batches[-1], cut.channels, *cut.grid)
            assert torch.equal(from_nchw(grid, prefix, cut), tensor)


@pytest.mark.parametrize(("name", "size", "kwargs"), FAST, ids=[name for name, _, _ in FAST])
def test_small_architectures(
    name: str, size: int, kwargs: dict[str, int], photographs: Tensor
) -> None:
    model = randomised(name, **kwargs)
    check(model, trace(model, (3, size, size), name), photographs)


def sample(names: Iterable[str]) -> list[Any]:
    """Mark every fourth one as slow, and the others as exhaustive."""
    marks = (pytest.mark.slow, *[pytest.mark.exhaustive] * 3)
    return [pytest.param(name, marks=marks[i % 4]) for i, name in enumerate(sorted(names))]


@pytest.mark.parametrize("name", sample(ARCHITECTURES.keys() - ONE_SIZE))
def test_architectures(name: str, photographs: Tensor) -> None:
    size, kwargs = ARCHITECTURES[name], {}
    if size is None:
        size, kwargs = 160, {"img_size": 160}
    model = randomised(name, **kwargs)
    check(model, trace(model, (3, size, size), name), photographs, batches=(1, 3))


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_at_their_own_size(name: str, photographs: Tensor) -> None:
    model = randomised(name)
    own = tuple(model.pretrained_cfg["input_size"])  # type: ignore[index]
    check(model, trace(model, own, name), photographs)


def test_the_list_is_wide_enough() -> None:
    names = ARCHITECTURES.keys() - OTHER_FEATURES
    assert len(names) >= 60
    assert len({timm.model_entrypoint(name).__module__ for name in names}) >= 40


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [n for n, size in ARCHITECTURES.items() if size is None])
def test_built_for_one_size(name: str) -> None:
    """The list spares no model a second size that it would take."""
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    own = model.pretrained_cfg["input_size"][1]
    for size in {128, 160, 192, 224, 256, 320} - {own}:
        with pytest.raises((AssertionError, RuntimeError, ValueError)), torch.no_grad():
            model(torch.empty(1, 3, size, size, device="meta"))


def test_not_square(photographs: Tensor) -> None:
    model = randomised("convnext_atto")
    graph = trace(model, (3, 64, 96))
    assert graph.cuts[1].grid == (16, 24)
    check(model, graph, photographs)
