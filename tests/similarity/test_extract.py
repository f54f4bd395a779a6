"""An actor's work without Ray: compiled models and mixed precision give the same Gram parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo_search.data.base import Subset
from zoo_search.similarity.estimators import PairSums, get_metric
from zoo_search.similarity.extract import GramActor, Settings
from zoo_search.similarity.grams import path_of, read
from zoo_search.store import RunStore
from zoo_search.zoo.models import ZooModel

PLAIN = Settings("cka", gram_dtype="float32")


def table(
    model: ZooModel, subset: Subset, settings: Settings, folder: Path
) -> np.ndarray[Any, Any]:
    """Return the CKA of all pairs of cuts of one model, from what an actor makes."""
    images = subset.load((32, 32), "bilinear")
    actor = GramActor(settings, torch.get_num_threads())
    actor.hold(model.name, model.graph, model.transform)
    header, data = actor.part("", 0, images.ids, images.images.numpy())
    store = RunStore(folder)
    store.write_bytes(path_of(model.name, 0), data)
    vectors, norms = read(store, header)
    sums = PairSums(get_metric("cka"), len(vectors))
    sums.add(vectors, norms)
    return sums.values()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["mobile", "vit"])
def test_compiled_models_give_the_same_table(name: str, zoo, subset, tmp_path: Path) -> None:
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = table(zoo[name], subset, replace(PLAIN, compile=True), tmp_path)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    assert np.abs(compiled - table(zoo[name], subset, PLAIN, tmp_path)).max() < 1e-4


@pytest.mark.parametrize("name", ["mobile", "vit"])
def test_bf16_gives_nearly_the_same_table(name: str, zoo, subset, tmp_path: Path) -> None:
    exact = table(zoo[name], subset, PLAIN, tmp_path)
    rounded = table(zoo[name], subset, replace(PLAIN, precision="bf16"), tmp_path)
    assert 0 < np.abs(rounded - exact).max() < 0.02
