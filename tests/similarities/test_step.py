"""The step on real Ray: same values as in memory, and errors that name what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo_search.config import DatasetConfig, SimilarityConfig
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset
from zoo_search.partitions.executor import OnHosts
from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.search import find_restarts
from zoo_search.partitions.solvers.restarts import restart_seeds
from zoo_search.similarities import SimilarityTable
from zoo_search.similarities.api import similarity
from zoo_search.similarities.step import compute, fixed_batches

CONFIG = SimilarityConfig(batch_size=16, gram_dtype="float32", window_mb=1, workers=1)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float16", 2e-3)])
def test_step_equals_memory(zoo, subset, tmp_path, hosts, dtype, bound) -> None:
    store = RunStore(tmp_path)
    config = CONFIG.model_copy(update={"gram_dtype": dtype})
    table = compute(zoo, subset, config, 3, store, hosts).table
    batches = fixed_batches(subset.ids, 16, 3)
    assert [len(batch) for batch in batches] == [16, 16, 18]

    for name, model in zoo.items():
        loaded = subset.load((32, 32), model.transform.interpolation)
        place = {sample: i for i, sample in enumerate(loaded.ids)}
        order = [place[sample] for batch in batches for sample in batch]
        images = model.transform.normalize(loaded.images[order])
        alone = similarity({name: model.graph}, images, batch_size=16)
        assert np.abs(table.block(name, name) - alone.values).max() < bound

    found = SimilarityTable.load(store.path("similarity.parquet"))
    assert (found.values == table.values).all()
    assert found.metadata["dataset"] == subset.fingerprint
    assert (found.metadata["samples"], found.metadata["batch_size"]) == (50, 16)
    assert found.metadata["gram_dtype"] == dtype
    assert found.models["vit"].params == [node.params for node in zoo["vit"].graph]
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.parquet")) == [
        *(f"grams/mobile/00000{b}.parquet" for b in range(3)),
        *(f"grams/vit/00000{b}.parquet" for b in range(3)),
        "similarity.parquet",
    ]


def test_nan_is_named_through_ray_and_leaves_no_file(make_model, subset, tmp_path, hosts) -> None:
    model = make_model("mobilenetv3_small_050", 0)
    with torch.no_grad():
        model.module.blocks[1][0].conv_pw.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"'broken'.*cut \d+ \(.*\).*sample '") as error:
        compute({"broken": model}, subset, CONFIG, 0, RunStore(tmp_path), hosts)
    assert "\n" not in str(error.value)
    assert not RunStore(tmp_path).list("grams/broken")


def test_too_few_images_before_any_work(zoo, tmp_path: Path) -> None:
    few = open_dataset(DatasetConfig(name="digits", per_class=5)).select(limit=3)
    with pytest.raises(UserError, match="at least 4 images"):
        compute(zoo, few, CONFIG, 0, RunStore(tmp_path))


@pytest.mark.slow
def test_a_prefix_token_stands_for_a_cut_on_request(zoo, subset, tmp_path, hosts) -> None:
    """The rule is recorded, and it is the other rule's value that differs, at token cuts only."""
    only = {"vit": zoo["vit"]}
    tables = {}
    for rule in ("mean", "cls"):
        config = CONFIG.model_copy(update={"prefix": rule})
        tables[rule] = compute(only, subset, config, 0, RunStore(tmp_path / rule), hosts).table
        assert tables[rule].metadata["prefix"] == rule
    gap = np.abs(tables["mean"].values - tables["cls"].values)
    assert gap[0, 0] == 0
    assert gap[1:, 1:].max() > 1e-3


def test_a_model_under_another_name_is_another_model(zoo, subset, tmp_path, hosts) -> None:
    """Names go into file names: what a file system does not take is escaped."""
    odd = {"a/b: c": zoo["mobile"], "plain": replace(zoo["mobile"], name="plain")}
    table = compute(odd, subset, CONFIG, 0, RunStore(tmp_path), hosts).table
    assert np.abs(table.block("a/b: c", "a/b: c") - table.block("plain", "plain")).max() < 1e-6
    assert {path.name for path in (tmp_path / "grams").iterdir()} == {"a%2Fb%3A%20c", "plain"}


@pytest.mark.slow
def test_the_partition_goes_on_with_the_processes_of_the_similarity(
    zoo, subset, tmp_path, hosts
) -> None:
    import ray

    def processes() -> list[int]:
        return ray.get([worker.actor.ping.remote() for worker in hosts.take(2)])

    before = processes()
    config = CONFIG.model_copy(update={"workers": None})
    table = compute(zoo, subset, config, 3, RunStore(tmp_path), hosts).table
    problem, seeds = from_table(table, k=2, eps=1.0), restart_seeds(0, 20)
    with OnHosts(problem, hosts=hosts, worth=0.0) as executor:
        far = find_restarts(problem, "exact", seeds, executor)
    near = find_restarts(problem, "exact", seeds)
    assert (far.objectives == near.objectives).all()
    assert processes() == before
