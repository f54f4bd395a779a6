"""Models that zoo-search trains itself: on scikit-learn's digits, 1797 images of 8 x 8 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset
from zoo_search.training.accuracy import accuracy
from zoo_search.training.images import InMemory
from zoo_search.training.schedules import FROM_SCRATCH
from zoo_search.zoo import load_zoo, pretrain

NET = {"arch": "test_resnet", "weights": "pretrained_on:digits"}
OTHER = {**NET, "kwargs": {"drop_rate": 0.1}}


def _job(**zoo: Any) -> dict[str, Any]:
    return {"name": "t", "dataset": "digits", "input_size": 16, "zoo": zoo}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_SEARCH_CACHE", str(tmp_path))
    return tmp_path / "pretrained"


def test_train_cache_load(cache: Path) -> None:
    job = _job(a=NET)
    with pytest.raises(UserError, match=r"zoo\.a\.weights.*'zoo-search zoo pretrain JOB\.yaml'"):
        load_zoo(job)
    report = pretrain(job)["a"]
    assert not report.cached
    assert report.test_accuracy > 0.9
    assert report.weights.parent == cache
    assert sorted(p.suffix for p in cache.iterdir()) == [".json", ".safetensors"]
    facts = json.loads(report.weights.with_suffix(".json").read_text())
    assert (facts["epochs"], facts["dataset"]) == (FROM_SCRATCH[0].epochs_full, "digits")
    assert facts["seconds"] > 0

    model = load_zoo(job)["a"]
    stored = load_file(report.weights)
    assert all(torch.equal(stored[k], v) for k, v in model.module.state_dict().items())
    assert model.transform.crop_pct == 1.0  # as it was trained
    fit = model.transform
    test = open_dataset(DatasetConfig(name="digits", seed=0)).select("test")
    images = test.load(fit.view)
    again = accuracy(model.module, InMemory(images.images, images.labels), fit)
    assert again == pytest.approx(report.test_accuracy)

    stamp = report.weights.stat().st_mtime_ns
    assert pretrain(job)["a"].cached
    assert report.weights.stat().st_mtime_ns == stamp
    # another size, other kwargs: other weights
    with pytest.raises(UserError, match="is not trained on digits yet"):
        load_zoo({**job, "input_size": 24})
    with pytest.raises(UserError, match="is not trained on digits yet"):
        load_zoo(_job(a=OTHER))


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_damaged_file_is_said_and_trained_anew(
    cache: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = _job(a=NET)
    report = pretrain(job)["a"]
    whole = report.weights.read_bytes()
    file = report.weights.with_suffix(suffix)
    data = file.read_bytes()
    place = data.index(b'"test_accuracy": 0.') + 20 if suffix == ".json" else len(data) - 9
    file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(UserError, match=r"or the \.json beside it changed after it was written"):
        load_zoo(job)
    capsys.readouterr()
    again = pretrain(job)["a"]
    assert "changed after it was written: trained anew" in " ".join(capsys.readouterr().err.split())
    assert not again.cached
    assert again.test_accuracy == report.test_accuracy
    assert again.weights.read_bytes() == whole
    assert load_zoo(job)["a"]


@pytest.mark.slow
def test_side_by_side_on_ray_gives_the_same_weights(
    cache: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = pretrain(_job(a=NET, b=OTHER))
    assert list(together) == ["a", "b"]
    weights = {name: load_file(r.weights) for name, r in together.items()}
    monkeypatch.setenv("ZOO_SEARCH_CACHE", str(cache.parent / "second"))
    alone = pretrain(_job(a=NET, b=OTHER), names=["a"])
    assert list(alone) == ["a"]
    assert alone["a"].weights.name == together["a"].weights.name
    again = load_file(alone["a"].weights)
    assert all(torch.equal(again[k], weights["a"][k]) for k in again)


def test_names_and_classes_are_checked() -> None:
    job = _job(net=NET, other={"arch": "test_vit"})
    with pytest.raises(UserError, match=r"'nett' is not in the zoo.*Did you mean 'net'"):
        pretrain(job, names=["nett"])
    with pytest.raises(UserError, match="'other' has other weights"):
        pretrain(job, names=["other"])
    with pytest.raises(UserError, match=r"num_classes is 7, but 'digits'.*has 10"):
        pretrain(_job(a={**NET, "kwargs": {"num_classes": 7}}))
    with pytest.raises(UserError, match=r"zoo\.a\.weights 'pretrained_on:digitz'.*digits"):
        pretrain(_job(a={**NET, "weights": "pretrained_on:digitz"}))
