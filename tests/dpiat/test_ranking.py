"""Similarity of architectures: the published figures, symmetry, and rankings."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
import timm
import torch
from torch import nn

from zoo_search import dpiat
from zoo_search.core.errors import UserError
from zoo_search.dpiat.matching import match
from zoo_search.dpiat.standardize import standardize


def meta(arch: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = timm.create_model(arch)
    return model


@pytest.mark.parametrize(("other", "expected"), [("efficientnet_b2", 0.804), ("mixnet_l", 0.457)])
def test_similarity_to_efficientnet_b0(other: str, expected: float) -> None:
    """The paper rounds to 0.8 and 0.5; the figures are those of its authors' code."""
    value = dpiat.similarity(meta("efficientnet_b0"), meta(other))
    assert value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("pair", [("resnet18", "resnet50"), ("vit_tiny_patch16_224", "lcnet_050")])
def test_similarity_is_symmetric_and_bounded(pair: tuple[str, str]) -> None:
    a, b = map(meta, pair)
    assert dpiat.similarity(a, b) == dpiat.similarity(b, a)
    assert 0 < dpiat.similarity(a, b) < 1
    assert dpiat.similarity(a, a) == dpiat.similarity(b, b) == 1.0


def test_nothing_in_common_is_zero() -> None:
    assert dpiat.similarity(nn.Linear(3, 3), nn.Embedding(3, 3)) == 0.0


def test_weights_do_not_matter() -> None:
    real, other = timm.create_model("lcnet_050"), meta("resnet18")
    assert dpiat.similarity(real, other) == dpiat.similarity(meta("lcnet_050"), other)


@dataclass(frozen=True)
class ZooEntry:
    module: nn.Module


def test_ranking_takes_modules_and_zoo_models() -> None:
    target = meta("efficientnet_b0")
    zoo = {
        "mixnet": ZooEntry(meta("mixnet_l")),
        "b2": meta("efficientnet_b2"),
        "itself": ZooEntry(meta("efficientnet_b0")),
        "vit": meta("vit_tiny_patch16_224"),
    }
    ranking = dpiat.rank_sources(target, zoo)
    assert [name for name, _ in ranking] == ["itself", "b2", "mixnet", "vit"]
    assert ranking[0][1] == 1.0
    assert ranking[1][1] == dpiat.similarity(target, meta("efficientnet_b2"))


def test_ranking_names_the_model_that_cannot_be_ranked() -> None:
    with pytest.raises(UserError, match="Model 'empty' of the zoo"):
        dpiat.rank_sources(nn.Linear(2, 2), {"empty": nn.ReLU()})


def test_matching_is_fast() -> None:
    """The bar for a pair, in CPU time; published is 0.9 s."""
    a, b = standardize(meta("efficientnet_b2")), standardize(meta("mixnet_l"))
    times = []
    for _ in range(3):
        start = time.process_time()
        match(a, b)
        times.append(time.process_time() - start)
    assert min(times) < 0.03
