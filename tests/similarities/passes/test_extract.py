"""A host's work without Ray: compiled models and mixed precision give the same Gram files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo_search.config import SimilarityConfig
from zoo_search.core.store import RunStore
from zoo_search.data.base import Subset
from zoo_search.similarities.estimators.products import PairSums
from zoo_search.similarities.estimators.registry import get_metric
from zoo_search.similarities.passes.extract import Extractor
from zoo_search.similarities.passes.grams import path_of, read
from zoo_search.training.precision import has_bf16
from zoo_search.zoo.models import ZooModel

PLAIN = SimilarityConfig(gram_dtype="float32")


def table(
    model: ZooModel, subset: Subset, settings: SimilarityConfig, folder: Path
) -> np.ndarray[Any, Any]:
    """Return the CKA of all pairs of cuts of one model, from what a host makes."""
    images = subset.load((32, 32), "bilinear")
    extractor = Extractor(settings, get_metric("cka"), torch.get_num_threads())
    extractor.hold(model.name, model.graph, model.transform)
    header, data = extractor.gram_file("", 0, images.ids, images.images.numpy())
    store = RunStore(folder)
    store.write_bytes(path_of(model.name, 0), data)
    vectors, norms = read(store, header)
    sums = PairSums(get_metric("cka"), len(vectors))
    sums.add(vectors, norms)
    return sums.values()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("vit", marks=pytest.mark.slow),
        pytest.param("mobile", marks=pytest.mark.exhaustive),
    ],
)
def test_compiled_models_give_the_same_table(name: str, zoo, subset, tmp_path: Path) -> None:
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = table(zoo[name], subset, PLAIN.model_copy(update={"compile": True}), tmp_path)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    assert np.abs(compiled - table(zoo[name], subset, PLAIN, tmp_path)).max() < 1e-4


@pytest.mark.skipif(not has_bf16("cpu"), reason="no unit for bf16")
@pytest.mark.parametrize("name", ["mobile", "vit"])
def test_bf16_gives_nearly_the_same_table(name: str, zoo, subset, tmp_path: Path) -> None:
    exact = table(zoo[name], subset, PLAIN, tmp_path)
    rounded = table(zoo[name], subset, PLAIN.model_copy(update={"precision": "bf16"}), tmp_path)
    assert 0 < np.abs(rounded - exact).max() < 0.02
