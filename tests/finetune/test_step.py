"""A training process that is killed: another one ends the same way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import MIXED, OTHER, Setting, kill_hosts, race_here, train_here

import zoo_search as zs
from zoo_search.config import JobConfig
from zoo_search.core.progress import Bar
from zoo_search.core.store import RunStore
from zoo_search.finetune import advance as advancing
from zoo_search.finetune import step, tuning
from zoo_search.finetune.checkpoints import FOLDER
from zoo_search.finetune.entries import Entry, Winners
from zoo_search.finetune.race import hold
from zoo_search.networks import Recipe

EPOCHS = 4


def begun(store: RunStore) -> bool:
    """Whether a checkpoint lies there."""
    return any(store.list(f"{FOLDER}/{key}") for key in store.list(FOLDER))


def small_job(setting: Setting, **change: object) -> JobConfig:
    """The job with streamed images in small steps, and other settings; nothing races."""
    changes = {"epochs": EPOCHS, "keep_decoded": 0.0, "batch_size": 10, "validation": 0.0, **change}
    finetune = setting.job.finetune.model_copy(update=changes)
    return setting.job.model_copy(update={"finetune": finetune})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_is_replaced(
    setting: Setting, tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL to the training process in the middle of an epoch: another one ends the same way.

    What an undisturbed training gives is computed here, without Ray Train, from images that are
    kept.
    """
    import ray._private.state

    monkeypatch.setattr(advancing, "_EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(advancing, "_STEP_SECONDS", 0.0)  # after every step
    entry = Entry("net", "reassembly", MIXED, {})
    calm, store = RunStore(tmp_path / "calm"), RunStore(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_all", train_here)
        kept = small_job(setting, keep_decoded=0.3)
        torch.set_num_threads(1)  # as many as the worker has beside those that decode
        (expected,) = step.run([entry], setting.zoo, setting.dataset, kept, calm)
    killed: list[int] = []
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(Bar, "under_way", lambda self, *told_now: told.append(told_now))

    def kill() -> None:
        while not begun(store):
            time.sleep(0.1)
        for actor in ray._private.state.actors().values():
            if actor["ActorClassName"] == "RayTrainWorker" and actor["State"] == "ALIVE":
                os.kill(actor["Pid"], signal.SIGKILL)
                killed.append(actor["Pid"])

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    (result,) = step.run([entry], setting.zoo, setting.dataset, small_job(setting), store)
    assert len(killed) == 1
    assert {name for name, _ in told} == {"net"}
    assert 0 < told[0][1] < told[-1][1] <= result.macs
    for protocol in ("frozen", "full"):
        ours, theirs = result.protocols[protocol], expected.protocols[protocol]
        assert [point.epoch for point in ours.curve] == list(range(1, EPOCHS + 1))
        assert [p.train_loss for p in ours.curve] == [p.train_loss for p in theirs.curve]
        assert ours.test_accuracy == theirs.test_accuracy
    assert zs.load(tmp_path / "run" / "winners" / "0").recipe == MIXED


SCRIPT = """
import json, sys
sys.path[:0] = json.loads(sys.argv[3])
from small_runs import MIXED, Setting
from zoo_search import cluster
from zoo_search.core.store import RunStore
from zoo_search.finetune import advance as advancing
from zoo_search.finetune import step
from zoo_search.finetune.entries import Entry, Winners

if __name__ == "__main__":
    advancing._EPOCH_SECONDS = advancing._STEP_SECONDS = 0.0
    made = Setting.of(json.loads(sys.argv[1]))
    cluster.connect(sys.argv[4])
    entry = Entry("net", "reassembly", MIXED, {})
    step.run([entry], made.zoo, made.dataset, made.job, RunStore(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_and_a_killed_driver_end_as_one_worker_does(
    setting: Setting,
    job: dict[str, Any],
    tmp_path: Path,
    ray_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FROZEN-TUNING, in which batch norms are still: what one worker gives, to rounding."""
    import ray

    entry, store = Entry("net", "reassembly", MIXED, {}), RunStore(tmp_path / "run")
    tuned = {"epochs": EPOCHS, "batch_size": 10, "protocol": ["frozen"], "keep_decoded": 0.0}
    tuned |= {"seeds": 1, "validation": 0.0}
    told = {key: value for key, value in job.items() if key != "init"}
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_all", train_here)
        one = small_job(setting, protocol=("frozen",))
        calm = RunStore(tmp_path / "calm")
        (expected,) = step.run([entry], setting.zoo, setting.dataset, one, calm)
    script = tmp_path / "run.py"
    script.write_text(SCRIPT, encoding="utf-8")
    asked = {**told, "finetune": {**tuned, "workers": 2}}
    address = ray.get_runtime_context().gcs_address
    command = [
        sys.executable, str(script), json.dumps(asked), store.url, json.dumps(sys.path), address
    ]  # fmt: skip
    first = subprocess.Popen(command)
    while not begun(store):
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.1)
    first.kill()
    first.wait()
    assert not store.exists("winners.json")
    made = Setting.of(asked)
    step.run([entry], made.zoo, made.dataset, made.job, store)
    (result,) = Winners.read(store).results
    ours, theirs = result.protocols["frozen"], expected.protocols["frozen"]
    assert [point.epoch for point in ours.curve] == list(range(1, EPOCHS + 1))
    for now, before in zip(ours.curve, theirs.curve, strict=True):
        assert now.train_loss == pytest.approx(before.train_loss, rel=1e-3)
    assert ours.test_accuracy == pytest.approx(theirs.test_accuracy, abs=0.01)


RACE = """
import json, sys
sys.path[:0] = json.loads(sys.argv[3])
from small_runs import MIXED, OTHER, Setting
from zoo_search import cluster
from zoo_search.core.store import RunStore
from zoo_search.finetune import step
from zoo_search.finetune.entries import Entry
from zoo_search.networks import Recipe

if __name__ == "__main__":
    made = Setting.of(json.loads(sys.argv[1]))
    cluster.connect(sys.argv[4])
    entries = [
        Entry("reassembly 1", "reassembly", MIXED),
        Entry("reassembly 2", "reassembly", OTHER),
        Entry("b", "single", Recipe.whole("b", len(made.zoo["b"].graph))),
    ]
    step.run(entries, made.zoo, made.dataset, made.job, RunStore(sys.argv[2]))
"""


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_race_whose_driver_and_hosts_are_killed_ends_as_one_that_was_not(
    job: dict[str, Any], tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Ray Tune, with two tries at rate and decay; no finished leg is run again.

    What an undisturbed race gives is computed here, without Ray Tune and Ray Train.
    """
    import ray

    told = {key: value for key, value in job.items() if key != "init"}
    tuned = {"epochs": EPOCHS, "winners": 1, "seeds": 1, "tries": 2, "batch_size": 10}
    asked = {**told, "finetune": tuned}
    calm, store = RunStore(tmp_path / "calm"), RunStore(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_all", train_here)
        patch.setattr(hold, "run_race", race_here)
        torch.set_num_threads(1)
        made = Setting.of(asked)
        entries = [
            Entry("reassembly 1", "reassembly", MIXED),
            Entry("reassembly 2", "reassembly", OTHER),
            Entry("b", "single", Recipe.whole("b", len(made.zoo["b"].graph))),
        ]
        step.run(entries, made.zoo, made.dataset, made.job, calm)
    script = tmp_path / "race.py"
    script.write_text(RACE, encoding="utf-8")
    address = ray.get_runtime_context().gcs_address
    command = [
        sys.executable, str(script), json.dumps(asked), store.url, json.dumps(sys.path), address
    ]  # fmt: skip

    def legs() -> dict[str, float]:
        found = [
            f"race/{key}/{name}" for key in store.list("race") for name in store.list(f"race/{key}")
        ]
        return {name: Path(store.path(name)).stat().st_mtime for name in found}

    first = subprocess.Popen(command)
    while len(legs()) < 2:
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    first.kill()
    first.wait()
    before = legs()
    second = subprocess.Popen(command)
    while len(legs()) < len(before) + 1:
        assert second.poll() is None, "it ended before a host could be killed"
        time.sleep(0.05)
    assert kill_hosts()
    assert second.wait(timeout=600) == 0
    after = legs()
    assert all(after[name] == when for name, when in before.items())
    ours, theirs = Winners.read(store), Winners.read(calm)
    assert ours.race == theirs.race
    assert [point for one in ours.race for point in one.seen if point.tuned]
    assert [(r.name, r.tuned, r.accuracy) for r in ours.results] == [
        (r.name, r.tuned, r.accuracy) for r in theirs.results
    ]
