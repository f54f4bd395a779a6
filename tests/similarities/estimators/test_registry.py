"""A user's own metric: in memory, on workers that do not know it, in a run; known by its code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import zoo_search as zs
from zoo_search.config import SimilarityConfig
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.similarities import step
from zoo_search.similarities.estimators.registry import (
    METRICS,
    Embedding,
    get_metric,
    metric_identity,
    metric_traits,
    vector_length,
)

CONFIG = SimilarityConfig(metric="test_scale_free", batch_size=16, gram_dtype="float32", workers=1)

CODE = """
from zoo_search.similarities.estimators.registry import Embedding

def flat(features):
    centred = features - features.mean(dim=0)
    return Embedding.of((centred @ centred.T).flatten()) {more}
"""


def scale_free(features: Tensor) -> Embedding:
    """CKA of features at unit variance, whole Gram matrices as vectors."""
    unit = (features - features.mean(dim=0)) / features.std(dim=0).clamp_min(1e-6)
    return Embedding.of((unit @ unit.T).flatten())


@pytest.fixture
def registered() -> Iterator[None]:
    zs.register_metric("test_scale_free")(scale_free)
    yield
    METRICS.unregister("test_scale_free")


@pytest.mark.usefixtures("registered")
def test_in_memory() -> None:
    torch.manual_seed(0)
    images = torch.randn(30, 3, 8, 8)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Sequential(nn.Conv2d(4, 5, 3))
    model = nn.Sequential(
        nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)
    )
    found = zs.similarity({"a": model}, images, metric="test_scale_free", batch_size=15)
    assert found.metadata["metric"] == "test_scale_free"
    image = images.mean(dim=(2, 3)).double()
    layer = layers[0](images).mean(dim=(2, 3)).double().detach()

    def products(x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(x.split(15), y.split(15), strict=True)
        z = [[(v - v.mean(0)) / v.std(0).clamp_min(1e-6) for v in pair] for pair in pairs]
        return sum(((a.T @ b) ** 2).sum() for a, b in z)

    expected = products(image, layer) / (products(image, image) * products(layer, layer)).sqrt()
    assert found.value("a", 0, "a", 1) == pytest.approx(float(expected), abs=1e-5)
    assert vector_length("test_scale_free", 15) == 225


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
def test_on_workers_and_made_anew_when_its_code_changes(
    zoo, subset, tmp_path: Path, hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    only, store = {"vit": zoo["vit"]}, RunStore(tmp_path)
    assert step.compute(only, subset, CONFIG, 0, store, hosts).forwards == {"vit": 3}
    assert step.compute(only, subset, CONFIG, 0, store, hosts).forwards == {}

    def scale_free(features: Tensor) -> Embedding:
        return Embedding.of(features[:, :1].flatten())

    METRICS.unregister("test_scale_free")
    zs.register_metric("test_scale_free")(scale_free)

    def asked(jobs, *_):
        raise RuntimeError(f"{list(jobs)} again")

    monkeypatch.setattr(step, "write_gram_files", asked)
    with pytest.raises(RuntimeError, match=r"'vit'. again"):
        step.compute(only, subset, CONFIG, 0, store, hosts)


def test_its_code_and_its_traits_are_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(more: str) -> list[object]:
        (tmp_path / "metrics_of_theirs.py").write_text(CODE.format(more=more), encoding="utf-8")
        sys.modules.pop("metrics_of_theirs", None)
        return metric_identity("module:metrics_of_theirs:flat")

    assert written("") == written("") != written("# changed")
    assert metric_identity("cka") == []
    try:
        METRICS.register("test_mean")(scale_free)
        first = metric_identity("test_mean")
        METRICS.register("test_mean")(metric_traits(summed=False)(scale_free))
        assert metric_identity("test_mean") != first
        assert not get_metric("test_mean").summed
    finally:
        METRICS.unregister("test_mean")
        del scale_free.traits  # type: ignore[attr-defined]


def test_an_unknown_name_is_told_where_it_stands() -> None:
    with pytest.raises(UserError, match=r"^similarity\.metric: .*'cka_bias'.*Did you mean 'cka_b"):
        get_metric("cka_bias")
