"""The step on real Ray: same values as in memory, and no model is run twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from zoo_search.config import DatasetConfig, SimilarityConfig, ZooEntry
from zoo_search.data import open_dataset
from zoo_search.data.base import Subset
from zoo_search.errors import UserError
from zoo_search.similarity import SimilarityTable
from zoo_search.similarity.api import similarity
from zoo_search.similarity.step import compute, fixed_batches
from zoo_search.store import RunStore
from zoo_search.zoo.models import ZooModel
from zoo_search.zoo.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("ray_cluster")
CONFIG = SimilarityConfig(batch_size=16)


def make(arch: str, seed: int, **preprocess: object) -> ZooModel:
    torch.manual_seed(seed)
    kwargs = {"img_size": 32, "patch_size": 8, "depth": 2} if "vit" in arch else {}
    module = timm.create_model(arch, **kwargs).eval()
    transform = Preprocess((32, 32), **preprocess)  # type: ignore[arg-type]
    return ZooModel(
        name=arch,
        spec=ZooEntry(arch=arch),
        module=module,
        transform=transform,
        family=arch,
        license=None,
        weights_hash=f"{arch}-{seed}",
        source="",
    )


@pytest.fixture(scope="module")
def zoo() -> dict[str, ZooModel]:
    return {
        "mobile": make("mobilenetv3_small_050", 0),
        "vit": make("vit_tiny_patch16_224", 1, mean=(0.5, 0.5, 0.5), interpolation="bilinear"),
    }


@pytest.fixture(scope="module")
def subset() -> Subset:
    return open_dataset(DatasetConfig(name="digits", per_class=5)).select(limit=50)


def grams(store: RunStore) -> dict[str, int]:
    """Return when each Gram file was written, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in Path(store.path("grams")).iterdir()}


def test_step_equals_memory_and_runs_no_model_twice(zoo, subset, tmp_path, capsys) -> None:
    store = RunStore(tmp_path)
    table = compute(zoo, subset, CONFIG, 3, store)
    batches = fixed_batches(subset.ids, 16, 3)
    assert [len(batch) for batch in batches] == [16, 16, 18]

    images = {}
    for name, model in zoo.items():
        loaded = subset.load((32, 32), model.transform.interpolation)
        place = {sample: i for i, sample in enumerate(loaded.ids)}
        order = [place[sample] for batch in batches for sample in batch]
        images[name] = model.transform.normalize(loaded.images[order])
    for name, model in zoo.items():
        alone = similarity({name: model.graph}, images[name], batch_size=16)
        assert np.abs(table.block(name, name) - alone.values).max() < 1e-5

    found = SimilarityTable.load(store.path("similarity.parquet"))
    assert (found.values == table.values).all()
    assert found.metadata["dataset"] == subset.fingerprint
    assert (found.metadata["samples"], found.metadata["batch_size"]) == (50, 16)
    assert found.models["vit"].params == [node.params for node in zoo["vit"].graph]

    # Nothing changed: nothing is run.
    before = grams(store)
    assert set(before) == {"mobile.parquet", "vit.parquet"}
    assert (compute(zoo, subset, CONFIG, 3, store).values == table.values).all()
    assert grams(store) == before
    assert "skipped mobile, vit" in " ".join(capsys.readouterr().err.split())

    # A model joins and another one's weights change: their own files only; old values stay.
    changed = replace(zoo["vit"], weights_hash="other")
    joined = {"mobile": zoo["mobile"], "vit": changed, "late": make("mobilenetv3_small_050", 5)}
    larger = compute(joined, subset, CONFIG, 3, store)
    now = grams(store)
    assert now["mobile.parquet"] == before["mobile.parquet"]
    assert now["vit.parquet"] != before["vit.parquet"]
    assert (larger.block("mobile", "vit") == table.block("mobile", "vit")).all()
    pair = {name: joined[name].graph for name in ("mobile", "late")}
    memory = similarity(pair, images["mobile"], batch_size=16)
    assert np.abs(larger.block("mobile", "late") - memory.block("mobile", "late")).max() < 1e-5

    # A model leaves: nothing is run.
    left = compute({name: joined[name] for name in ("late", "vit")}, subset, CONFIG, 3, store)
    assert grams(store) == now
    assert (left.block("late", "vit") == larger.block("late", "vit")).all()


def test_nan_is_named_through_ray_and_leaves_no_file(subset, tmp_path) -> None:
    model = make("mobilenetv3_small_050", 0)
    with torch.no_grad():
        model.module.blocks[1][0].conv_pw.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"'broken'.*cut \d+ \(.*\).*sample '") as error:
        compute({"broken": model}, subset, CONFIG, 0, RunStore(tmp_path))
    assert "\n" not in str(error.value)
    assert not RunStore(tmp_path).list("grams")


def test_too_few_images_before_any_work(zoo, subset, tmp_path) -> None:
    few = open_dataset(DatasetConfig(name="digits", per_class=5)).select(limit=3)
    with pytest.raises(UserError, match="at least 4 images"):
        compute(zoo, few, CONFIG, 0, RunStore(tmp_path))


def test_gram_files_of_other_samples_are_refused(zoo, subset, tmp_path) -> None:
    """Files that are mixed up by hand: both sides are named."""
    from zoo_search.similarity import grams as files
    from zoo_search.similarity.estimators import get_metric

    store, metric = RunStore(tmp_path), get_metric("cka")
    rows = [metric.embed(torch.randn(8, 3)), metric.embed(torch.randn(8, 5))]
    for name, ids in (("a", "01234567"), ("b", "01234568")):
        with files.Writer(store, name, "made", {}) as writer:
            writer.write(files.to_arrow(0, ids, rows))
    with pytest.raises(UserError, match=r"'a' and 'b'.*grams/a.parquet holds.*grams/b.parquet"):
        list(files.Reader(store, ["a", "b"], metric).batches())
