"""Where a run stands, read while it runs, after it stopped, and after it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from zoo_search import cluster
from zoo_search.core.errors import UserError
from zoo_search.core.files import unreachable
from zoo_search.core.progress import progress
from zoo_search.core.store import RunStore
from zoo_search.core.tables import duration
from zoo_search.run import heartbeat, pipeline
from zoo_search.run.directory import alone, claim
from zoo_search.run.heartbeat import PROGRESS, telling
from zoo_search.run.owner import OWNER, SILENT
from zoo_search.run.run import Run
from zoo_search.run.status import RunStatus, status_of, with_stale
from zoo_search.run.steps import STEPS, Step

JOB = {
    "name": "x", "dataset": "digits", "init": "random", "input_size": 32,
    "zoo": {"a": {"arch": "resnet10t", "weights": None}},
}  # fmt: skip


def made(store: RunStore, *steps: str, at: str = "2026-01-01T00:00:00Z") -> RunStore:
    """Record steps as made, one after another, each with an artifact."""
    claim(store)
    for number, step in enumerate(steps):
        store.write_text(f"{step}.txt", step)
        store.record(step, "hash", [f"{step}.txt"], seconds=61.0)
        _at(store, step, at.replace("00Z", f"{number:02d}Z"))
    return store


def _at(store: RunStore, step: str, when: str) -> None:
    from zoo_search.core.identity import fingerprint

    said = store.read_json("manifest.json")
    said["steps"][step]["finished"] = when
    store.write_json("manifest.json", {**said, "check": fingerprint(said["steps"])})


def stages(found: RunStatus) -> dict[str, str]:
    return {step.name: step.stage for step in found.steps}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59.6, "1 min"), (185, "3 min 5 s"), (7500, "2 h 5 min"), (90061, "1 d 1 h")],
)
def test_times_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_steps_are_told_as_they_are(tmp_path: Path) -> None:
    store = made(RunStore(tmp_path), "zoo", "similarity", "partition")
    found = status_of(store)
    assert stages(found) == {
        "zoo": "done", "similarity": "done", "partition": "done",
        "reassemble": "to do", "finetune": "to do", "report": "to do",
    }  # fmt: skip
    assert found.state == "stopped"
    assert found.steps[0].finished == "2026-01-01T00:00:00Z"
    assert found.steps[0].seconds == 61
    _at(store, "zoo", "2026-01-02T00:00:00Z")
    store.remove("partition.txt")
    found = status_of(store)
    assert stages(found) | {"similarity": "older", "partition": "damaged"} == stages(found)
    assert found.steps[1].reason.startswith("than zoo")
    assert found.steps[2].reason.startswith("partition.txt is missing")
    known = with_stale(found, ["partition", "reassemble", "finetune", "report"])
    assert [step.stage for step in known.steps] == ["done", "done", "stale", *["to do"] * 3]
    assert json.loads(json.dumps(asdict(known)))["steps"][2]["name"] == "partition"


def test_a_finished_run(tmp_path: Path) -> None:
    store = made(RunStore(tmp_path), *STEPS)
    assert status_of(store).state == "finished"
    known = with_stale(status_of(store), ["finetune", "report"])
    assert known.state == "stopped"
    assert [step.stage for step in known.steps][-2:] == ["stale", "older"]


@pytest.mark.parametrize("place", ["nowhere", "memory://nowhere/x"])
def test_where_there_is_no_run(tmp_path: Path, place: str) -> None:
    where = place if "://" in place else str(tmp_path / place)
    with pytest.raises(UserError, match=r"There is no run at .*nowhere"):
        status_of(RunStore(where))


def test_a_storage_that_cannot_be_reached_is_no_missing_run() -> None:
    """The command tells it as all commands do (tests/security/test_servers.py)."""
    with pytest.raises(Exception, match=r"127\.0\.0\.1") as raised:
        status_of(RunStore("http://127.0.0.1:9/run"))
    assert unreachable(raised.value) is raised.value


def test_a_run_tells_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the run itself, in the middle of a step."""
    place, seen = str(tmp_path / "run"), []

    def make(run: Run) -> list[str]:
        with progress("counting", 4) as bar:
            bar.advance(3, note="the third")
            heartbeat.Heartbeat(run.store)  # another one changes nothing
            end = time.monotonic() + 20
            while time.monotonic() < end and not seen:
                found = status_of(RunStore(place))
                if found.doing is not None and "3/4" in found.doing.what:
                    seen.append(found)
                time.sleep(0.01)
        return []

    monkeypatch.setattr(heartbeat, "_EVERY", 0.05)
    monkeypatch.setattr(Run, "prepare", lambda run: None)
    monkeypatch.setitem(STEPS, "zoo", Step(1, lambda run: 0, make))
    pipeline.run(JOB, until="zoo", directory=place)
    (found,) = seen
    assert found.state == "running"
    assert found.worker is not None
    assert (found.worker.process, found.worker.alive) == (os.getpid(), True)
    assert found.worker.heard is not None
    assert found.doing is not None
    assert (found.doing.step, found.doing.share) == ("zoo", 0.75)
    assert found.doing.what.startswith("counting 3/4")
    assert found.doing.ray_job == cluster.job_id()  # other tests of this process may have a Ray
    assert found.steps[0].stage == "at work"
    assert not (tmp_path / "run" / PROGRESS).exists()  # a run that ended well leaves none
    assert status_of(RunStore(place)).steps[0].stage == "done"
    assert pipeline.to_make(Run.open(JOB, place)) == list(STEPS)[1:]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("The cause at s3://KEY:SECRET@bucket/x."), "The cause at s3://***@bucket/x"),
        (KeyboardInterrupt(), "stopped by Ctrl-C"),
    ],
)
def test_a_run_that_stops_says_why(tmp_path: Path, error: BaseException, said: str) -> None:
    store = made(RunStore(tmp_path), "zoo")
    with pytest.raises(type(error)), telling(store) as told:
        told.begin("similarity")
        raise error
    found = status_of(store)
    assert (found.state, found.ended) == ("stopped", said)
    assert found.doing is not None
    assert found.doing.step == "similarity"
    assert any("goes on from here" in line for line in found.words())


KILLED = """
import sys, time
from zoo_search.core.store import RunStore
from zoo_search.run.directory import alone, claim
from zoo_search.run.heartbeat import telling
store = RunStore(sys.argv[1])
claim(store)
with alone(store), telling(store) as told:
    told.begin("zoo")
    print("up", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_is_gone(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        found = status_of(RunStore(tmp_path))
        assert (found.state, found.steps[0].stage) == ("running", "at work")
        assert found.worker is not None
        assert found.worker.process == process.pid
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    found = status_of(RunStore(tmp_path))
    assert (found.state, found.steps[0].stage) == ("gone", "to do")
    assert found.doing is not None
    assert found.doing.step == "zoo"
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    status_of(RunStore(tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with alone(RunStore(tmp_path)):  # and its lock is gone with it
        pass


@pytest.mark.parametrize(("ago", "state"), [(10, "running"), (SILENT + 10, "unknown")])
def test_a_process_elsewhere_lives_by_its_signs(tmp_path: Path, ago: float, state: str) -> None:
    store = made(RunStore(tmp_path), "zoo")
    owner = {"host": "elsewhere", "process": 7, "born": 1.0, "since": "2026-01-01T00:00:00Z"}
    store.write_json(OWNER, owner)
    assert status_of(store).state == "unknown"  # on a disk the lock itself has no beat
    beat = {"beat": time.time() - ago, "step": "similarity", "step_since": time.time() - 100}
    store.write_json(PROGRESS, {**owner, **beat})
    found = status_of(store)
    assert found.state == state
    assert found.steps[1].stage == "at work"


@pytest.mark.parametrize("said", ["", "[1]", "{", '{"step": 3, "beat": "x", "share": []}', "null"])
def test_a_damaged_report_tells_nothing(tmp_path: Path, said: str) -> None:
    store = made(RunStore(tmp_path), "zoo")
    for name in (PROGRESS, OWNER):
        store.write_text(name, said)
    assert stages(status_of(store))["zoo"] in ("done", "at work")
    assert status_of(store).words()


def kept(store: RunStore, name: str, value: Any) -> None:
    store.keep(name, value)


def test_the_best_so_far_and_what_is_kept(tmp_path: Path) -> None:
    store = made(RunStore(tmp_path), "zoo", "similarity", "partition", "reassemble")
    for key, epochs, accuracy in (("a" * 16, 2, 0.5), ("a" * 16, 8, 0.7), ("b" * 16, 4, 0.6)):
        record = {"validation_accuracy": accuracy, "validation_loss": 1.0, "seconds": 1.0}
        kept(store, f"race/{key}/{epochs:06d}.json", record)
    kept(store, "logs/reassembly+1/steps.json", {"key": "a" * 16, "protocols": {}})
    store.write_text(f"finetune/{'b' * 16}/protocols.json", "{}")
    found = status_of(store)
    assert found.best is not None
    assert (found.best.of, found.best.name, found.best.value) == ("race", "reassembly 1", 0.7)
    assert "after 8 epochs" in found.best.words
    assert found.kept == ("3 legs of the race by 2 trainings", "1 training to the end")
    store.write_text(f"race/{'a' * 16}/000016.json", "damaged")
    assert status_of(store).best is None
    assert (tmp_path / f"race/{'a' * 16}/000016.json").read_text() == "damaged"
