"""A real race in two brackets: the second one by what the first has shown, killed or not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from small_runs import Setting, kill_hosts, race_here, train_here

from zoo_search.core.store import RunStore
from zoo_search.finetune import selection, step, tuning
from zoo_search.finetune.entries import Entry, Winners
from zoo_search.finetune.race import hold
from zoo_search.networks import BlockRef, Recipe
from zoo_search.reassembly.candidates import Candidate, to_table

SCRIPT = """
import json, sys
sys.path[:0] = json.loads(sys.argv[3])
from small_runs import Setting
from test_step_brackets import hold_it
from zoo_search import cluster
from zoo_search.core.store import RunStore

if __name__ == "__main__":
    cluster.connect(sys.argv[4])
    hold_it(Setting.of(json.loads(sys.argv[1])), RunStore(sys.argv[2]))
"""


def hold_it(made: Setting, store: RunStore) -> None:
    """Choose from the candidates of a run, and race."""
    nothing: Any = ()  # partitions: no baseline is drawn from them
    entries, more = selection.select_entries(made.job, store, made.zoo, made.dataset, nothing)
    entries.append(Entry("b", "single", Recipe.whole("b", len(made.zoo["b"].graph))))
    step.run(entries, made.zoo, made.dataset, made.job, store, more=more)


def write_candidates(store: RunStore) -> list[Candidate]:
    """Candidates of two blocks, as a search would leave them."""
    cuts = [(1, 4), (2, 4), (3, 4), (1, 6), (2, 6), (3, 6)]
    recipes = [Recipe((BlockRef("a", 0, a), BlockRef("b", b, 8))) for a, b in cuts]
    recipes += [Recipe((BlockRef("b", 0, b), BlockRef("a", a, 4))) for a, b in cuts]
    found = [
        Candidate(n, r, "reassembly", 1, 1, {"probe": float(5 * n % 12)}, "complete", "", 0.1)
        for n, r in enumerate(recipes)
    ]
    place = Path(store.path("candidates.parquet"))
    place.parent.mkdir(parents=True)
    pq.write_table(to_table(found, ["probe"], {}), place)
    return found


def legs(store: RunStore) -> dict[str, float]:
    names = [
        f"race/{key}/{name}"
        for key in store.list("race")
        if not key.endswith(".json")
        for name in store.list(f"race/{key}")
    ]
    return {name: Path(store.path(name)).stat().st_mtime for name in names}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "after",
    [pytest.param(2, marks=pytest.mark.exhaustive), pytest.param(6, marks=pytest.mark.slow)],
)
def test_a_race_in_brackets_ends_alike_when_driver_and_hosts_are_killed(
    job: dict[str, Any],
    tmp_path: Path,
    ray_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    after: int,
) -> None:
    """The driver in the first bracket or in the second, then the hosts; no leg is run again.

    What an undisturbed race gives is computed without Ray Tune and Ray Train.
    """
    import ray

    plain = {key: value for key, value in job.items() if key != "init"}
    tuned = {
        "epochs": 2, "winners": 1, "candidates": 4, "brackets": 2, "seeds": 1, "tries": 1,
        "batch_size": 10, "baselines": [],
    }  # fmt: skip
    asked = {**plain, "finetune": tuned}
    calm, store = RunStore(tmp_path / "calm"), RunStore(tmp_path / "run")
    candidates = {c.recipe.key for c in (*write_candidates(calm), *write_candidates(store))}
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_all", train_here)
        patch.setattr(hold, "run_race", race_here)
        torch.set_num_threads(1)
        hold_it(Setting.of(asked), calm)
    script = tmp_path / "brackets.py"
    script.write_text(SCRIPT, encoding="utf-8")
    address = ray.get_runtime_context().gcs_address
    command = [
        sys.executable, str(script), json.dumps(asked), store.url, json.dumps(sys.path), address
    ]  # fmt: skip
    first = subprocess.Popen(command)
    while len(legs(store)) < after:
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    first.kill()
    first.wait()
    before = legs(store)
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while len(legs(store)) < len(before) + 1 and not ended.wait(0.05):
            pass
        killed.extend(kill_hosts())

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    capsys.readouterr()
    hold_it(Setting.of(asked), store)
    ended.set()
    killer.join()
    assert killed, "it ended before a host could be killed"
    told = " ".join(capsys.readouterr().err.split())
    assert "another 2 reassemblies race, 1 taken by " in told
    assert "1 taken by what the race has shown: expected" in told
    assert all(legs(store)[name] == when for name, when in before.items())
    ours, theirs = Winners.read(store), Winners.read(calm)
    assert ours.race == theirs.race
    assert [(one.role, one.bracket) for one in ours.race] == [
        ("reassembly", 1), ("reassembly", 1), ("single", 1), ("reassembly", 2), ("reassembly", 2)
    ]  # fmt: skip
    assert [one.expected is not None for one in ours.race] == [*[False] * 4, True]
    assert all(0 <= one.expected.validation_accuracy <= 1 for one in ours.race[3:] if one.expected)
    # Of each bracket one comes to the end, and the better one of these is told.
    ends = [one for one in ours.race if one.role == "reassembly" and one.seen[-1].epochs == 4]
    assert [one.bracket for one in ends] == [1, 2]
    (winner,) = (result for result in ours.results if result.role == "reassembly")
    best = max(ends, key=lambda e: (e.seen[-1].validation_accuracy, -e.seen[-1].validation_loss))
    assert winner.name == best.name
    assert {one.recipe.key for one in ours.race if one.role == "reassembly"} <= candidates
