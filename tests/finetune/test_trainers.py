"""How long a trainer is waited for, and what is told meanwhile."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import Any

import pytest
from small_runs import Setting, make_task

from zoo_search.cluster import News
from zoo_search.core import timeout
from zoo_search.core.errors import UserError
from zoo_search.core.progress import Bar, progress
from zoo_search.core.store import RunStore
from zoo_search.finetune.checkpoints import FOLDER
from zoo_search.finetune.lanes import trainers
from zoo_search.finetune.trained import Failure, keep_failure


class Ended(queue.Queue[Any]):
    """A trainer that has ended without an error."""

    def __init__(self) -> None:
        super().__init__()
        self.put(None)


def test_checkpoints_are_progress_and_silence_ends_the_wait(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that never ends, looked at every second: at first it writes checkpoints."""
    store, task = RunStore(tmp_path), make_task(setting)
    folder = tmp_path / FOLDER / task.key
    now = 0.0

    class Silent(queue.Queue[Any]):
        """A queue that nobody puts anything into, on a clock of its own."""

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            nonlocal now
            now += timeout or 0.0
            if now <= 9 and now % 2 == 0:
                (folder / f"{now:06.0f}").mkdir(parents=True)
            raise queue.Empty

    monkeypatch.setattr(timeout.time, "monotonic", lambda: now)
    monkeypatch.setattr(timeout, "_timeout", 2.5)
    with (
        progress("fine-tuning", 1) as bar,
        pytest.raises(UserError, match=r"waiting for fine-tuning: .*no progress for 2\.5 s"),
    ):
        trainers._watch([task], store, Silent(), bar, lambda: None)
    assert now == 11  # the checkpoint of second 8 was the last progress


def test_what_workers_tell_is_shown_and_is_progress(
    setting: Setting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task, now = make_task(setting, macs=8), 0.0
    told = iter([News({"net": 0.25}), None, News({"net": 0.5}, ["net: less memory"])])

    class Silent(queue.Queue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            nonlocal now
            now += timeout or 0.0
            raise queue.Empty

    monkeypatch.setattr(timeout.time, "monotonic", lambda: now)
    monkeypatch.setattr(timeout, "_timeout", 2.5)
    bar = Bar("fine-tuning", 1, work=8.0)
    with pytest.raises(UserError, match="no progress"):
        trainers._watch([task], RunStore(tmp_path), Silent(), bar, lambda: next(told, None))
    assert bar.share == 0.5
    assert now == 5  # the third look, at second 2, was the last that heard anything
    assert capsys.readouterr().err.count("net: less memory") == 1


def test_what_ended_a_task_is_said(setting: Setting, tmp_path: Path) -> None:
    """One that diverged is given up; anything else has to be mended."""
    store, bar = RunStore(tmp_path), Bar("fine-tuning", 2)
    tasks = [make_task(setting, key=key) for key in ("a", "b")]
    for task in tasks:
        keep_failure(store, task.key, Failure(f"{task.key}: the loss is nan", True))
    found = trainers._watch(list(tasks), store, Ended(), bar, lambda: None)
    assert {key: failure.reason for key, failure in found.items()} == {
        "a": "a: the loss is nan",
        "b": "b: the loss is nan",
    }
    keep_failure(store, "b", Failure("No room for an image.", False))
    with pytest.raises(UserError, match=r"^net: No room for an image\.$"):
        trainers._watch(list(tasks), store, Ended(), bar, lambda: None)
    (tmp_path / "finetune/failed/b.json").unlink()
    with pytest.raises(UserError, match="net: the disk is full"):
        trainers._watch(
            list(tasks), store, Ended(), bar, lambda: News({}, ["net: the disk is full"])
        )


def test_helpers_of_ray_that_would_only_cost_a_process_are_left_out() -> None:
    """By the names of Ray's own callbacks: they have to be those of the version that is here."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def helpers(trainer: Any) -> set[str]:
        made = trainer(lambda: None, scaling_config=ScalingConfig(num_workers=1))
        return {type(callback).__name__ for callback in made._create_default_callbacks()}

    whole = helpers(TorchTrainer)
    lean = helpers(trainers.lean_trainer(trainers._HELPERS_LOCAL))
    assert whole - lean == set(trainers._HELPERS_LOCAL)


def test_an_elastic_training_waits_shorter_and_a_user_is_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one process, a fixed training, an elastic one, and one with what the user has set."""
    name = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(trainers, "_set", {})
    found = []
    for values in (trainers._QUICK, trainers._QUICK | trainers._QUICK_ELASTIC, trainers._QUICK):
        trainers._set_unless_user({name: values[name]})
        found.append(float(os.environ[name]))
    assert found[0] == found[2] > 5 * found[1] > 0
    monkeypatch.setenv(name, "77")
    trainers._set_unless_user(trainers._QUICK_ELASTIC)
    assert os.environ[name] == "77"
