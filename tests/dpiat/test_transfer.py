"""Transfer: copies, crops, and a target that stays as it was when something is wrong."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import timm
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_networks import filled
from torch import nn

from zoo_search import dpiat
from zoo_search.dpiat.operators import centre_crops
from zoo_search.errors import UserError


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Random values everywhere, the running statistics included."""
    for part in filled(module, seed).modules():
        if isinstance(part, nn.BatchNorm2d):
            part.num_batches_tracked.fill_(seed)
    return module


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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=0, max_size=3))
def test_crops_are_those_of_the_appendix(sizes: list[tuple[int, int]]) -> None:
    """Appendix A.2, one index at a time, counted from 1 as there."""

    def g(j: int, x: int, y: int) -> int:
        return j + (x - y) // 2 if x > y else j

    t_shape, s_shape = [t for t, _ in sizes], [s for _, s in sizes]
    source = torch.rand(s_shape)
    expected, got = torch.zeros(t_shape), torch.zeros(t_shape)
    for index in itertools.product(*(range(1, min(t, s) + 1) for t, s in sizes)):
        into = tuple(g(j, t, s) - 1 for j, (t, s) in zip(index, sizes, strict=True))
        out_of = tuple(g(j, s, t) - 1 for j, (t, s) in zip(index, sizes, strict=True))
        expected[into] = source[out_of]
    into_crop, out_of_crop = centre_crops(t_shape, s_shape)
    got[into_crop] = source[out_of_crop]
    assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("source", "target"),
    [("resnet10t", "mixnet_s"), ("mixnet_s", "lcnet_050"), ("lcnet_050", "resnet10t")],
)
def test_twice_is_once(source: str, target: str) -> None:
    giver = randomise(timm.create_model(source), 1)
    taker = randomise(timm.create_model(target), 2)
    given_before, taken_before = state(giver), state(taker)
    report = dpiat.transfer(giver, taker)
    once = state(taker)
    assert not same(once, taken_before)
    assert dpiat.transfer(giver, taker) == report
    assert same(state(taker), once)
    assert same(state(giver), given_before)


def test_report_adds_up() -> None:
    source, target = randomise(timm.create_model("lcnet_050"), 1), timm.create_model("resnet10t")
    with torch.no_grad():
        for tensor in itertools.chain(target.parameters(), target.buffers()):
            tensor.zero_()
    report = dpiat.transfer(source, target)
    values = [t for t in target.state_dict().values() if t.is_floating_point()]
    assert report.copied == sum(int((t != 0).sum()) for t in values)
    assert report.total == sum(t.numel() for t in values)
    assert report.similarity == dpiat.similarity(source, target)
    assert json.loads(json.dumps(report.as_dict()))["copied"] == report.copied
    assert f"{report.copied:,}" in str(report)
    filled = {layer.target for layer in report.layers}
    assert not filled & {layer.name for layer in report.untouched}


def test_fused_projections_are_cropped_one_by_one() -> None:
    source, target = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(6, 2)
    dpiat.transfer(source, target)
    for part in range(3):
        torch.testing.assert_close(
            target.in_proj_weight[6 * part + 1 : 6 * part + 5, 1:5],
            source.in_proj_weight[4 * part : 4 * part + 4],
        )


def test_half_precision_source() -> None:
    source, target = nn.Linear(3, 4).to(torch.bfloat16), nn.Linear(3, 4)
    dpiat.transfer(source, target)
    assert target.weight.dtype == torch.float32
    assert torch.equal(target.weight, source.weight.float())


def test_networks_that_share_memory() -> None:
    """A target whose layers are the source's, in another order, reads what was there before."""
    one, two, three = (nn.Linear(4, 4, bias=False) for _ in range(3))
    values = [layer.weight.detach().clone() for layer in (one, two)]
    dpiat.transfer(nn.Sequential(one, nn.ReLU(), two), nn.Sequential(two, nn.ReLU(), three))
    assert torch.equal(two.weight, values[0])
    assert torch.equal(three.weight, values[1])


def test_gradients_flow_after_a_transfer() -> None:
    target = timm.create_model("lcnet_050", num_classes=3)
    dpiat.transfer(timm.create_model("resnet10t"), target)
    target(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.is_leaf and p.grad is not None for p in target.parameters())


def test_wrapped_networks_and_a_network_with_itself() -> None:
    source, target = timm.create_model("lcnet_050"), timm.create_model("lcnet_050")
    dpiat.transfer(nn.DataParallel(source), target)
    before = state(source)
    assert same(state(target), before)
    assert dpiat.transfer(source, source).coverage == 1.0
    assert same(state(source), before)


def expanded_net() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].bias = nn.Parameter(torch.zeros(1).expand(3))
    return net


def inference_net() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(3, 3)


def complex_net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, dtype=torch.complex64))


def quantised_net() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    weight = net[1].weight.detach().to(torch.int8)
    net[1].weight = nn.Parameter(weight, requires_grad=False)
    return net


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (nn.ReLU(), "no parameters"),
        (nn.Embedding(5, 3), "no layer type in common"),
        (complex_net(), "complex64"),
        (quantised_net(), "int8"),
        (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta")), "meta device"),
    ],
)
def test_bad_source_leaves_the_target_as_it_was(source: nn.Module, words: str) -> None:
    target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    before, given_before = state(target), copy.deepcopy(source)
    with pytest.raises(UserError, match=words) as error:
        dpiat.transfer(source, target)
    assert "\n" not in str(error.value)
    assert same(state(target), before)
    if "meta" not in words:
        assert same(state(source), state(given_before))


@pytest.mark.parametrize(
    "target", [complex_net(), quantised_net(), expanded_net(), inference_net(), nn.ReLU()]
)
def test_bad_target_is_left_as_it_was(target: nn.Module) -> None:
    before = state(target)
    with pytest.raises(UserError):
        dpiat.transfer(nn.Linear(3, 3), target)
    assert same(state(target), before)
