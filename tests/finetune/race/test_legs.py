"""Legs of real trainings: a network that pauses ends as one that does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import MIXED, Setting

from zoo_search import cluster
from zoo_search.core.store import RunStore
from zoo_search.finetune import advance as advancing
from zoo_search.finetune.advance import Terms, advance, forget
from zoo_search.finetune.checkpoints import Checkpoints
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.race.halving import Leg
from zoo_search.finetune.race.legs import train_leg
from zoo_search.finetune.race.records import Record, read_record
from zoo_search.finetune.starts import Starts
from zoo_search.finetune.tasks import TrainingTask, Values
from zoo_search.finetune.trained import Failure, read_trained
from zoo_search.training.machine import ALONE

pytestmark = pytest.mark.usefixtures("ray_cluster")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tasks(setting: Setting) -> tuple[TrainingTask, TrainingTask]:
    """Two epochs of each protocol, and the same with other values in the last one."""
    starts = Starts(setting.zoo, setting.dataset, setting.job)
    (start,) = starts.first([Entry("reassembly 1", "reassembly", MIXED, {})])
    own = start.tasks[0]
    other = starts.task(
        start.network, own.seed, own.fold, starts.protocols, Values(2.0, 0.2), own.key
    )
    return own, other


def terms(store: RunStore) -> Terms:
    return Terms(store.url, torch.get_num_threads(), 1.0, 1.0, 0.0, cluster.pulse())


def state(store: RunStore, task: TrainingTask) -> Mapping[str, Any]:
    return load_file(Path(store.path(f"finetune/{task.key}/model.safetensors")))


def curves(store: RunStore, task: TrainingTask) -> dict[str, list[tuple[float, float | None]]]:
    """Return loss and validation accuracy of each epoch, by protocol."""
    return {
        name: [(p.train_loss, p.validation_accuracy) for p in each.curve]
        for name, each in read_trained(store, task.key).protocols.items()
    }


def same(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.fixture(scope="module")
def whole(tasks: tuple[TrainingTask, TrainingTask], tmp_path_factory: Any) -> RunStore:
    """Both trained from start to end."""
    store = RunStore(tmp_path_factory.mktemp("whole"))
    for task in tasks:
        advance(replace(task, like=None), store, terms(store), ALONE, CPU)
    return store


def test_one_that_pauses_ends_as_one_that_does_not(
    tasks: tuple[TrainingTask, TrainingTask],
    whole: RunStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, _ = tasks
    store, epochs = RunStore(tmp_path), []
    train = advancing.train

    def counted(*args: Any, **options: Any) -> Any:
        each = options["on_epoch"]

        def count(point: Any, snapshot: Any) -> None:
            epochs.append((options["protocol"], point.epoch))
            each(point, snapshot)

        return train(*args, **{**options, "on_epoch": count})

    monkeypatch.setattr(advancing, "train", counted)
    found = {}
    for until in (1, 2, 3, 4):
        answer = train_leg(own, store, terms(store), CPU, until)
        assert isinstance(answer, Record)
        found[until] = answer
        assert read_record(store, Leg(own.key, until)) == answer
    assert epochs == [("frozen", 1), ("frozen", 2), ("full", 1), ("full", 2)]
    assert same(state(whole, own), state(store, own))
    assert curves(whole, own) == curves(store, own)
    straight = read_trained(whole, own.key)
    kept = straight.protocols["full"].kept
    assert kept is not None
    # On the way the best epoch counts, and the start.
    points = [p for each in straight.protocols.values() for p in each.curve][:3]
    start = found[1].validation_accuracy
    seen = [start, *(p.validation_accuracy or 0.0 for p in points)]
    assert [found[n].validation_accuracy for n in (2, 3)] == [max(seen[:3]), max(seen)]
    assert start >= (points[0].validation_accuracy or 0.0)
    assert found[4].validation_accuracy == kept.validation_accuracy
    # Asked for once more, nothing is trained: neither to the end nor to where it has been.
    assert isinstance(train_leg(own, store, terms(store), CPU, 4), Record)
    assert len(epochs) == 4
    assert Checkpoints(store, own.key).newest() is None
    forget(store, own.key)
    assert store.list("finetune/checkpoints") == []


def test_a_leg_whose_process_died_before_it_was_written_down_is_not_trained_again(
    tasks: tuple[TrainingTask, TrainingTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _ = tasks
    store = RunStore(tmp_path)
    first = train_leg(own, store, terms(store), CPU, 2)
    store.remove("race")
    monkeypatch.setattr(advancing, "train", lambda *args, **options: pytest.fail("trained again"))
    again = train_leg(own, store, terms(store), CPU, 2)
    assert isinstance(first, Record)
    assert isinstance(again, Record)
    assert replace(again, seconds=0.0) == replace(first, seconds=0.0)


def test_a_try_begins_where_frozen_tuning_ended(
    tasks: tuple[TrainingTask, TrainingTask],
    whole: RunStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And ends as if it had trained all of it."""
    own, other = tasks
    assert other.key != own.key
    assert other.schedule.lr_full == 2 * own.schedule.lr_full
    assert other.schedule.lr_frozen == own.schedule.lr_frozen
    assert (other.schedule.decay("frozen"), other.schedule.decay("full")) == (0.05, 0.2)
    store = RunStore(tmp_path)
    for until in (2, 4):
        train_leg(own, store, terms(store), CPU, until)
    begun = []
    train = advancing.train

    def watched(*args: Any, **options: Any) -> Any:
        begun.append((options["protocol"], options["resume"] is not None))
        return train(*args, **options)

    monkeypatch.setattr(advancing, "train", watched)
    train_leg(other, store, terms(store), CPU, 4)
    assert begun == [("frozen", True), ("full", False)]
    assert same(state(whole, other), state(store, other))
    mine, theirs = curves(store, own), curves(store, other)
    assert theirs == curves(whole, other)
    assert mine["frozen"] == theirs["frozen"]
    assert mine["full"] != theirs["full"]


def test_one_that_diverges_is_told_and_not_written_down(
    tasks: tuple[TrainingTask, TrainingTask], tmp_path: Path
) -> None:
    own, _ = tasks
    store = RunStore(tmp_path)
    wild = replace(own, schedule=replace(own.schedule, lr_frozen=1e30, step_limit=None))
    answer = train_leg(wild, store, terms(store), CPU, 2)
    assert isinstance(answer, Failure)
    assert answer.diverged
    assert read_record(store, Leg(own.key, 2)) is None
