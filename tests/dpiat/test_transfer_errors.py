"""A target stays as it was when something is wrong."""

from __future__ import annotations

import copy

import pytest
import torch
from random_networks import same, state
from torch import nn

from zoo_search import dpiat
from zoo_search.core.errors import UserError


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
