"""Similarities on other images than the target's, and a table that a zoo brings along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from zoo_search.config import DatasetConfig, load_job
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset
from zoo_search.run import pipeline
from zoo_search.run.run import Run, check_names
from zoo_search.run.steps import STEPS
from zoo_search.similarities import ModelCuts, SimilarityTable, step
from zoo_search.similarities.api import similarity

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
ARCHS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("resnet10t", {}),
    "vit": ("vit_tiny_patch16_224", VIT),
    "wide": ("vit_tiny_patch16_224", VIT | {"embed_dim": 48}),
}
JOB: dict[str, Any] = {
    "name": "x",
    "input_size": 32,
    "init": "random",
    "zoo": {
        name: {"arch": arch, "kwargs": kwargs, "weights": None}
        for name, (arch, kwargs) in ARCHS.items()
        if name != "wide"
    },
    "dataset": {"name": "digits", "per_class": 4},
    "partition": {"k": 2, "eps": 0.5, "restarts": 5},
}
OTHER = {"name": "digits", "per_class": 9, "seed": 5}


@pytest.fixture(scope="module")
def table() -> SimilarityTable:
    """Of three models on noise, made in memory."""
    torch.manual_seed(0)
    models = {name: timm.create_model(arch, **kwargs) for name, (arch, kwargs) in ARCHS.items()}
    return similarity(models, torch.randn(24, 3, 32, 32), batch_size=12)


def sent(monkeypatch: pytest.MonkeyPatch, run: Run) -> tuple[Any, DatasetConfig]:
    """Make the step without its passes; return the images that they would see, and of what."""
    seen: list[Any] = []

    def compute(zoo: Any, subset: Any, *rest: Any, source: DatasetConfig) -> None:
        seen.append((subset, source))

    monkeypatch.setattr(Run, "connect", lambda self: None)
    monkeypatch.setattr(step, "compute", compute)
    STEPS["similarity"].make(run)
    return seen[0]


def test_the_other_data_set_is_seen_by_fraction_and_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target, other = (open_dataset(DatasetConfig(**c), 3) for c in (JOB["dataset"], OTHER))
    for similar, dataset, fraction, limit in (
        ({"fraction": 0.5}, target, 0.5, None),
        ({"fraction": 0.5, "dataset": OTHER}, other, 0.5, None),
        ({"fraction": 1.0, "limit": 60, "dataset": OTHER}, other, 1.0, 60),
    ):
        run = Run.open(JOB | {"seed": 3, "similarity": similar}, str(tmp_path))
        subset, source = sent(monkeypatch, run)
        expected = dataset.select("train", fraction, limit, 3)
        assert (subset.ids, subset.fingerprint) == (expected.ids, expected.fingerprint)
        assert source.per_class == (9 if dataset is other else 4)
        made_from = [run.zoo_identity, run.job.similarity.identity(), expected.fingerprint, 3]
        assert STEPS["similarity"].inputs(run) == made_from
    assert len(subset) == 60 > len(target.select("train"))  # more than the target has


def test_the_default_has_the_identity_of_runs_before_there_was_a_choice() -> None:
    plain = load_job(JOB).similarity.identity()
    assert {"dataset", "table"}.isdisjoint(plain)
    named = load_job(JOB | {"similarity": {"dataset": "digits"}}).similarity.identity()
    assert named == plain | {"dataset": named["dataset"]}


def test_mistakes_are_told_with_their_place() -> None:
    with pytest.raises(UserError, match=r"^similarity\.dataset\.name: .*'digit'.*'digits'\?"):
        check_names(load_job(JOB | {"similarity": {"dataset": "digit"}}))
    with pytest.raises(UserError, match=r"section similarity: dataset\.path is missing"):
        _ = Run.open(JOB | {"similarity": {"dataset": "folder"}}).similarity_dataset
    with pytest.raises(UserError, match=r"'similarity': table is .*leave one of them out"):
        load_job(JOB | {"similarity": {"dataset": "digits", "table": "x.parquet"}})


def test_a_table_is_taken_instead_of_one_that_is_computed(
    table: SimilarityTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a relative path, and without Ray; what it is counts, and not where."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(Run, "connect", lambda self: pytest.fail("Ray is not needed here"))
    table.save("tables/big.parquet")

    def told(place: str) -> tuple[list[str], SimilarityTable]:
        said: list[str] = []
        job = JOB | {"similarity": {"table": place}}
        done = pipeline.run(job, until="partition", directory="run", say=said.append)
        return [line.partition(":")[0] for line in said if ": made in" in line], done.table

    made, found = told("tables/big.parquet")
    assert made == ["zoo", "similarity", "partition"]
    assert list(found.models) == ["resnet", "vit"]
    for one in found.models:
        for other in found.models:
            assert (found.block(one, other) == table.block(one, other)).all()
    assert found.models["vit"] == table.models["vit"]
    assert told("tables/big.parquet")[0] == []
    Path("tables/big.parquet").rename("moved.parquet")
    assert told("moved.parquet")[0] == []
    changed = SimilarityTable(table.models, np.sqrt(np.abs(table.values)))
    changed.save("moved.parquet")
    made, found = told("moved.parquet")
    assert made == ["similarity", "partition"]
    assert (found.block("vit", "resnet") == changed.block("vit", "resnet")).all()
    with pytest.raises(UserError, match="run itself writes"):
        told("run/similarity.parquet")


def test_a_table_that_does_not_fit_is_told_before_a_network_is_built(
    table: SimilarityTable, tmp_path: Path
) -> None:
    place = str(tmp_path / "big.parquet")
    table.save(place)
    job = JOB | {"similarity": {"table": place}, "zoo": {"new": {"arch": "no_such_architecture"}}}
    with pytest.raises(UserError, match=r"lacks 'new' of the zoo; it holds resnet, vit, wide"):
        pipeline.run(job, until="similarity", directory=str(tmp_path / "run"))
    job["zoo"] = {"vit": {"arch": ARCHS["wide"][0], "kwargs": ARCHS["wide"][1], "weights": None}}
    with pytest.raises(UserError, match=r"'vit' of this zoo: its node 0 .*parameters there"):
        pipeline.run(job, until="similarity", directory=str(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_table_on_other_images_on_ray(ray_cluster: None, tmp_path: Path) -> None:
    similar = {"dataset": OTHER, "fraction": 1.0, "batch_size": 30, "gram_dtype": "float32"}
    job = JOB | {"seed": 3, "similarity": similar}
    done = pipeline.run(job, until="similarity", directory=str(tmp_path / "run"))
    table = done.table
    assert table.metadata["source"] == OTHER
    assert table.metadata["samples"] == 90
    subset = open_dataset(DatasetConfig(**OTHER), 3).select("train", 1.0, None, 3)
    assert table.metadata["dataset"] == subset.fingerprint
    batches = step.fixed_batches(subset.ids, 30, 3)
    for name, model in done.zoo.items():
        images = subset.load(model.transform.view)
        place = {sample: i for i, sample in enumerate(images.ids)}
        x = model.transform.normalize(images.images[[place[s] for b in batches for s in b]])
        alone = similarity({name: model.graph}, x, batch_size=30)
        assert np.abs(table.block(name, name) - alone.values).max() < 1e-5
        assert table.models[name] == ModelCuts.of(model.graph)
