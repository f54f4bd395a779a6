"""What a change costs, counted: batches run forward and inner products."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from zoo_search.config import SimilarityConfig
from zoo_search.core.store import RunStore
from zoo_search.similarities.step import ARTIFACT, compute

CONFIG = SimilarityConfig(batch_size=16, workers=1)
BATCHES = 3


@pytest.mark.slow
def test_each_change_costs_its_own_grams_and_its_own_pairs(
    zoo, make_model, subset, tmp_path: Path, hosts
) -> None:
    store = RunStore(tmp_path)

    def step(models):
        return compute(models, subset, CONFIG, 3, store, hosts)

    def from_nothing(models):
        return compute(models, subset, CONFIG, 3, RunStore(tmp_path / "fresh"), hosts).table.values

    cuts = {name: len(model.graph.cuts) for name, model in zoo.items()}
    n = sum(cuts.values())
    first = step(zoo)
    assert first.forwards == {"mobile": BATCHES, "vit": BATCHES}
    assert n**2 / 2 <= first.products / BATCHES <= n**2

    again = step(zoo)
    assert (again.forwards, again.products) == ({}, 0)
    assert (again.table.values == first.table.values).all()

    # A model joins: its own Grams, its own rows and columns, and what the others divide by.
    joined = zoo | {"late": make_model("mobilenetv3_small_050", 5)}
    late = len(joined["late"].graph.cuts)
    more = step(joined)
    assert more.forwards == {"late": BATCHES}
    assert more.products <= BATCHES * (late * (n + late) + n)
    assert (more.table.block("mobile", "vit") == first.table.block("mobile", "vit")).all()
    assert np.abs(more.table.values - from_nothing(joined)).max() < 1e-6

    # Weights change.
    joined["vit"] = replace(make_model("vit_tiny_patch16_224", 7), weights_hash="other")
    changed = step(joined)
    assert changed.forwards == {"vit": BATCHES}
    assert changed.products <= BATCHES * (cuts["vit"] * (n + late) + n + late)
    assert (changed.table.block("late", "mobile") == more.table.block("late", "mobile")).all()
    assert np.abs(changed.table.values - from_nothing(joined)).max() < 1e-6

    # A model leaves, and the others change places: nothing is run, its files are removed.
    left = step({name: joined[name] for name in ("late", "vit")})
    assert (left.forwards, left.products) == ({}, 0)
    assert (left.table.block("late", "vit") == changed.table.block("late", "vit")).all()
    assert store.list("grams") == ["late", "vit"]

    # The table is gone: no forward pass, all products.
    store.remove(ARTIFACT)
    rebuilt = step({name: joined[name] for name in ("late", "vit")})
    assert rebuilt.forwards == {}
    assert np.abs(rebuilt.table.values - left.table.values).max() < 1e-6


@pytest.mark.slow
def test_files_that_cannot_be_used_are_made_again_and_no_others(
    zoo, subset, tmp_path, hosts
) -> None:
    store = RunStore(tmp_path)
    whole = compute(zoo, subset, CONFIG, 0, store, hosts)
    files = sorted((tmp_path / "grams" / "mobile").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:-40])  # cut off
    table = pq.read_table(files[1])
    header = json.loads(table.schema.metadata[b"zoo_search"])
    old = {"format": 1, "made_from": header["made_from"]}
    table = table.replace_schema_metadata({b"zoo_search": json.dumps(old).encode()})
    pq.write_table(table, files[1])
    vit = sorted((tmp_path / "grams" / "vit").iterdir())
    pq.write_table(pq.read_table(vit[2]).replace_schema_metadata({}), vit[2])
    (tmp_path / "grams" / "mobile.parquet").write_bytes(b"format 1 had one file a model")
    (tmp_path / "grams" / "mobile" / "000009.parquet").write_bytes(files[2].read_bytes())
    (tmp_path / "grams" / "mobile" / "notes.txt").write_text("no Gram file")

    mended = compute(zoo, subset, CONFIG, 0, store, hosts)
    assert mended.forwards == {"mobile": 2, "vit": 1}
    assert (mended.table.values == whole.table.values).all()
    assert store.list("grams") == ["mobile", "vit"]
    # What is no file of ours is left alone.
    assert len(store.list("grams/mobile")) == BATCHES + 1
    assert "notes.txt" in store.list("grams/mobile")


@pytest.mark.parametrize(
    "metric",
    [
        pytest.param("lr", marks=pytest.mark.slow),
        pytest.param("cka_biased", marks=pytest.mark.exhaustive),
        pytest.param("rbf_cka", marks=pytest.mark.exhaustive),
    ],
)
def test_every_metric_grows_as_from_nothing(
    zoo, make_model, subset, tmp_path, hosts, metric
) -> None:
    config = SimilarityConfig(batch_size=25, metric=metric, workers=1)
    store = RunStore(tmp_path / "grown")
    compute({"mobile": zoo["mobile"]}, subset, config, 0, store, hosts)
    grown = compute(zoo, subset, config, 0, store, hosts)
    whole = compute(zoo, subset, config, 0, RunStore(tmp_path / "whole"), hosts)
    assert grown.forwards == {"vit": 2}
    assert grown.products < whole.products
    assert np.abs(grown.table.values - whole.table.values).max() < 1e-6
