"""SIGKILL to the driver of a search on Ray, in the middle; the same command goes on."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import search_to_kill
from search_to_kill import ARCHS, prepare

from zoo_search.networks import Recipe
from zoo_search.reassembly.scoring import Scorer

ZOO_MODELS = len(ARCHS)


def start(
    folder: Path, journal: Path, sampler: str, workers: int, trials: int
) -> subprocess.Popen[bytes]:
    """Start the search with a HOME and a Ray of its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    options = {"HOME": str(home), "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    return subprocess.Popen(
        [sys.executable, search_to_kill.__file__, sampler, str(workers), str(trials), str(journal)],
        env=os.environ | options, cwd=folder,
        stdout=subprocess.DEVNULL, stderr=(folder / "stderr").open("ab"),
    )  # fmt: skip


def scored(journal: Path) -> list[dict[str, Any]]:
    """Read the trials of a journal as anybody with Optuna does."""
    if not journal.exists():
        return []
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal))
    )
    if not optuna.get_all_study_names(storage):
        return []
    trials = optuna.load_study(study_name="zoo-search", storage=storage).get_trials()
    return [
        {
            "recipe": json.loads(t.user_attrs["recipe"]),
            "score": t.values[0],
            "state": t.state.name,
        }
        for t in trials
    ]


def end(pids: list[int]) -> None:
    """End processes by id: those that a killed driver left behind."""
    left = []
    for pid in pids:
        try:
            left.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(left, timeout=15)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=15)


def kill_in_the_middle(
    folder: Path,
    journal: Path,
    sampler: str,
    workers: int,
    trials: int,
    how: signal.Signals = signal.SIGKILL,
) -> int:
    """End the driver when it has some of its candidates; return how many."""
    driver = start(folder, journal, sampler, workers, trials)
    deadline = time.monotonic() + 600
    try:
        while len(scored(journal)) < ZOO_MODELS + trials // 4:
            assert driver.poll() is None, (folder / "stderr").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        family = [p.pid for p in psutil.Process(driver.pid).children(recursive=True)]
        driver.send_signal(how)
        assert driver.wait(60) != 0
        end(family)
    return len(scored(journal))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_search_goes_on_after_its_driver_was_killed(tmp_path: Path) -> None:
    """What two workers had in hand is scored once, and as one process without Ray scores it."""
    found = killed(tmp_path, "random", 2, trials=16)
    _, task = prepare()
    score = Scorer(task)
    for trial in found:
        assert score(Recipe.from_any(trial["recipe"])).scores == {"probe": trial["score"]}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ctrl_c_is_no_end_of_a_search(tmp_path: Path) -> None:
    """Else the step would count as made, with as few candidates as there were."""
    journal = tmp_path / "stopped.journal"
    found = kill_in_the_middle(tmp_path, journal, "random", 1, 40, signal.SIGINT)
    assert found < ZOO_MODELS + 40
    assert (tmp_path / "stderr").read_text().rstrip().endswith("KeyboardInterrupt")


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_one_worker_is_asked_in_the_same_order(tmp_path: Path) -> None:
    calm = tmp_path / "calm.journal"
    driver = start(tmp_path, calm, "cpsat", 1, 40)
    assert driver.wait(600) == 0, (tmp_path / "stderr").read_text()
    assert killed(tmp_path, "cpsat", 1, trials=40) == scored(calm)


def killed(folder: Path, sampler: str, workers: int, trials: int) -> list[dict[str, Any]]:
    """Return the trials of a search that was killed in the middle and went on."""
    journal, count = folder / "broken.journal", ZOO_MODELS + trials
    before = kill_in_the_middle(folder, journal, sampler, workers, trials)
    assert ZOO_MODELS + trials // 4 <= before < count
    kept = scored(journal)
    driver = start(folder, journal, sampler, workers, trials)
    assert driver.wait(600) == 0, (folder / "stderr").read_text()
    found = scored(journal)
    assert found[:before] == kept  # nothing lost, nothing changed
    assert {t["state"] for t in found} == {"COMPLETE"}  # nothing stuck
    assert len({json.dumps(t["recipe"]) for t in found}) == len(found) == count  # nothing twice
    return found
