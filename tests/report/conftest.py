"""A run directory with what its closing table is made of, without a run."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zoo_search.config import load_job
from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import ProtocolResult, Result, Training, Winners
from zoo_search.networks import Recipe
from zoo_search.reassembly import Candidate, step
from zoo_search.reassembly.candidates import to_table
from zoo_search.training.snapshot import Epoch

RECIPE = Recipe.from_any(
    {"blocks": [{"model": "a", "start": 0, "stop": 2}, {"model": "b", "start": 3, "stop": 5}]}
)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "run")
    job = load_job(
        {
            "name": "small",
            "zoo": {"a": {"arch": "x"}, "b": {"arch": "y"}},
            "dataset": "digits",
            "search": {"proxies": ["naswot", "params"]},
        }
    )
    old = job.to_yaml().replace("timeout:", "patience:").replace("schedule:", "recipe:")
    store.write_text("job.yaml", old)  # as an earlier version wrote it
    curve = (Epoch(1, 0.5, 0.5, 1.0), Epoch(2, 0.4, 0.6, 1.0))
    full = {"full": ProtocolResult(0.91, 7, 2.0, curve)}
    both = {
        "frozen": ProtocolResult(0.8, 3, 1.0, curve),
        "full": ProtocolResult(0.96, 9, 2.0, curve),
    }
    results = (
        Result("reassembly 1", "reassembly", RECIPE, 1_230_000, 4_560_000, {},
               (Training(0, None, both),), "winners/0"),
        Result("b0", "plain", Recipe.whole("b0", 4), 5_000_000, 9, {},
               (Training(0, None, full),), "winners/1"),
    )  # fmt: skip
    Winners("digits", ("0", "1"), 20, 100, results).write(store)
    candidates = [
        Candidate(0, Recipe.whole("a", 4), "zoo", 9, 8, {"naswot": 1.5, "params": 9.0},
                  "complete", "", 0.5),
        Candidate(1, RECIPE, "reassembly", 7, 6, {"naswot": 2.5, "params": 7.0}, "complete", "",
                  0.5, memory=44),
        Candidate(2, Recipe.whole("b", 6), "zoo", 5, 4, {"naswot": 9.5}, "failed", "no params",
                  0.5),
    ]  # fmt: skip
    table = to_table(candidates, ("naswot", "params"), {})
    pq.write_table(table, store.path(step.CANDIDATES))
    return store
