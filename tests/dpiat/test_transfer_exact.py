"""Transfers that keep the function: the same architecture, and wider ones."""

from __future__ import annotations

import itertools

import pytest
import timm
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_networks import randomise, same, state
from torch import nn

from zoo_search import dpiat

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
SMALL: list[tuple[str, dict[str, object]]] = [
    ("resnet10t", {}),
    ("mixnet_s", {}),
    ("convnext_atto", {}),
    ("vit_tiny_patch16_224", VIT),
    ("vit_tiny_patch16_224", {**VIT, "init_values": 1e-5, "reg_tokens": 2}),
    ("swin_tiny_patch4_window7_224", {"img_size": 56, "embed_dim": 12, "num_heads": (1, 2, 4, 8)}),
]


@pytest.mark.parametrize(("arch", "kwargs"), SMALL)
def test_same_architecture_is_copied_exactly(arch: str, kwargs: dict[str, object]) -> None:
    source = randomise(timm.create_model(arch, **kwargs), 1)
    target = randomise(timm.create_model(arch, **kwargs), 2)
    before = state(source)
    report = dpiat.transfer(source, target)
    assert same(state(target), before)
    assert same(state(source), before)
    assert report.similarity == 1.0
    assert report.coverage == 1.0
    assert report.untouched == ()
    assert all(layer.source == layer.target for layer in report.layers)


def residual_net(width: int) -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(2 * width)
            self.conv2 = nn.Conv2d(2 * width, width, 3, padding=1)
            self.bn2 = nn.BatchNorm2d(width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))

    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5),
    )  # fmt: skip


def assert_same_function(source: nn.Module, target: nn.Module, size: int) -> None:
    with torch.no_grad():
        for tensor in itertools.chain(target.parameters(), target.buffers()):
            tensor.zero_()
    report = dpiat.transfer(source, target)
    assert report.untouched == ()
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, got = source.double().eval()(x.double()), target.double().eval()(x.double())
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wide", [7, 9, 12])
def test_wider_target_with_the_rest_zero_is_the_same_function(wide: int) -> None:
    """Section 3.4, for even and odd differences in width."""
    assert_same_function(randomise(residual_net(6), 3), residual_net(wide), 8)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 8), st.integers(0, 4)), min_size=1, max_size=4),
    st.sampled_from(["linear", "conv"]),
    st.integers(0, 1000),
)
def test_namesakes_in_a_wider_network_keep_the_function(
    widths: list[tuple[int, int]], kind: str, seed: int
) -> None:
    """Wherever every layer goes to its namesake, which the scores alone do not promise."""

    def net(sizes: list[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([3, *sizes, 5]):
            if kind == "linear":
                layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
            else:
                layers += [nn.Conv2d(before, after, 3), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers)

    source = randomise(net([a for a, _ in widths]), seed)
    target = net([a + more for a, more in widths])
    with torch.no_grad():
        for tensor in itertools.chain(target.parameters(), target.buffers()):
            tensor.zero_()
    report = dpiat.transfer(source, target)
    assume(report.untouched == () and all(x.source == x.target for x in report.layers))
    shape = (4, 3) if kind == "linear" else (4, 3, 11, 11)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        expected, got = source.double().eval()(x), target.double().eval()(x)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_wider_timm_network_with_the_rest_zero_is_the_same_function() -> None:
    torch.manual_seed(0)
    narrow = timm.create_model("resnet18", channels=(16, 32, 48, 64), num_classes=4)
    wide = timm.create_model("resnet18", channels=(20, 40, 60, 80), num_classes=4)
    assert_same_function(narrow, wide, 64)
