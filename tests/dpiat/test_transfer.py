"""Transfers done twice, in other types, over shared memory and wrappers."""

from __future__ import annotations

import pytest
import timm
import torch
from random_networks import randomise, same, state
from torch import nn

from zoo_search import dpiat


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
