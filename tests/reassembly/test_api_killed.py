"""Ctrl-C and SIGKILL to the driver of a search on Ray, in the middle; the same search goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import search_to_kill
from search_to_kill import ARCHS, find, prepare

from zoo_search.networks import Recipe
from zoo_search.reassembly.scoring import Scorer

ZOO_MODELS = len(ARCHS)
pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(1800)]


def start(
    folder: Path, journal: Path, sampler: str, workers: int, trials: int
) -> subprocess.Popen[bytes]:
    """Start the search as a process of its own on the Ray of the tests."""
    import ray

    words = [sampler, str(workers), str(trials), str(journal)]
    return subprocess.Popen(
        [sys.executable, search_to_kill.__file__, *words, ray.get_runtime_context().gcs_address],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=(folder / "stderr").open("ab"),
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


def end_in_the_middle(
    driver: subprocess.Popen[bytes], folder: Path, journal: Path, count: int, how: signal.Signals
) -> list[dict[str, Any]]:
    """End the driver when there are so many candidates; return those that it leaves."""
    deadline = time.monotonic() + 600
    try:
        while len(scored(journal)) < count:
            assert driver.poll() is None, (folder / "stderr").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        driver.send_signal(how)
        assert driver.wait(60) != 0
    return scored(journal)


@pytest.mark.slow
def test_a_search_goes_on_after_ctrl_c_and_after_its_driver_was_killed(tmp_path: Path) -> None:
    """What two workers had in hand is scored once, and as one process without Ray scores it."""
    journal, trials = tmp_path / "broken.journal", 24
    first = start(tmp_path, journal, "random", 2, trials)
    stopped = end_in_the_middle(first, tmp_path, journal, ZOO_MODELS + 2, signal.SIGINT)
    # Else the step would count as made, with as few candidates as there were.
    assert ZOO_MODELS + 2 <= len(stopped) < ZOO_MODELS + trials
    assert (tmp_path / "stderr").read_text().rstrip().endswith("KeyboardInterrupt")
    second = start(tmp_path, journal, "random", 2, trials)
    kept = end_in_the_middle(second, tmp_path, journal, len(stopped) + 2, signal.SIGKILL)
    assert len(stopped) + 2 <= len(kept) < ZOO_MODELS + trials
    find("random", 2, trials, journal)
    found = scored(journal)
    assert found[: len(stopped)] == stopped
    goes_on(found, kept, trials)
    _, task = prepare()
    score = Scorer(task)
    for trial in found:
        assert score(Recipe.from_any(trial["recipe"])).scores == {"probe": trial["score"]}


@pytest.mark.exhaustive
def test_one_worker_is_asked_in_the_same_order(tmp_path: Path) -> None:
    calm, broken, trials = tmp_path / "calm.journal", tmp_path / "broken.journal", 40
    find("cpsat", 1, trials, calm)
    driver = start(tmp_path, broken, "cpsat", 1, trials)
    kept = end_in_the_middle(driver, tmp_path, broken, ZOO_MODELS + 10, signal.SIGKILL)
    find("cpsat", 1, trials, broken)
    goes_on(scored(broken), kept, trials)
    assert scored(broken) == scored(calm)


def goes_on(found: list[dict[str, Any]], kept: list[dict[str, Any]], trials: int) -> None:
    """Check that a search which went on lost nothing of what was kept, and found all."""
    assert found[: len(kept)] == kept  # nothing lost, nothing changed
    assert {t["state"] for t in found} == {"COMPLETE"}  # nothing stuck
    count = ZOO_MODELS + trials
    assert len({json.dumps(t["recipe"]) for t in found}) == len(found) == count  # nothing twice
