"""Similarity of architectures: what the paper says of it, symmetry, and rankings."""

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


def test_similarities_that_the_paper_speaks_of() -> None:
    """EfficientNet-B0 to B2: "a similarity score of 0.8" (section 4.3); to MixNet-L "low" (4.4).

    Figure 5 has both, but as a picture, whose values stand nowhere in the text.
    """
    b0 = meta("efficientnet_b0")
    b2, mixnet = (dpiat.similarity(b0, meta(name)) for name in ("efficientnet_b2", "mixnet_l"))
    assert round(b2, 1) == 0.8
    assert mixnet < 0.5


@pytest.mark.parametrize(("other", "ours"), [("efficientnet_b2", 0.80404), ("mixnet_l", 0.45742)])
def test_similarities_stay_as_they_are(other: str, ours: float) -> None:
    """Ours, kept: a change of the standardization or the matching shows here."""
    value = dpiat.similarity(meta("efficientnet_b0"), meta(other))
    assert value == pytest.approx(ours, abs=1e-5)


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
    """The bar for a pair, in CPU time; the paper says "within a few seconds" (appendix A.3)."""
    a, b = standardize(meta("efficientnet_b2")), standardize(meta("mixnet_l"))
    times = []
    for _ in range(3):
        start = time.process_time()
        match(a, b)
        times.append(time.process_time() - start)
    assert min(times) < 0.03
