"""A task that is interrupted ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import MIXED, SIZE, Setting, make_task

import zoo_search as zs
from zoo_search.core.store import RunStore
from zoo_search.finetune.advance import tune
from zoo_search.finetune.checkpoints import Checkpoints, TaskCheckpoint
from zoo_search.finetune.entries import ProtocolResult
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.watching import Watcher
from zoo_search.networks.network import ReassembledNet
from zoo_search.training.choice import Choice
from zoo_search.training.images import InMemory
from zoo_search.training.machine import Machine
from zoo_search.training.schedules import Protocol
from zoo_search.training.snapshot import Epoch, Snapshot

HERE = Machine(torch.device("cpu"))


class Recorder(Watcher):
    """Takes a checkpoint after every step and every epoch."""

    def __init__(self) -> None:
        self.taken: list[TaskCheckpoint] = []

    def begin(
        self, protocol: Protocol, finished: Mapping[Protocol, ProtocolResult], choice: Choice
    ) -> None:
        self.now, self.finished, self.choice = protocol, finished, choice

    def step(self, share: float, snapshot: Callable[[], Snapshot]) -> None:
        kept, chosen = self.choice.kept, self.choice.tensors()
        self.taken.append(TaskCheckpoint(self.now, self.finished, snapshot(), kept, chosen))

    def epoch(self, point: Epoch, snapshot: Callable[[], Snapshot]) -> None:
        self.step(0.0, snapshot)


class Opened:
    """A place that needs no object store."""

    def __init__(self, images: InMemory) -> None:
        self.images = images

    def open(self) -> InMemory:
        return self.images


@pytest.fixture
def task(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> TrainingTask:
    from zoo_search.finetune import advance

    part = setting.dataset.select("train").load((SIZE, SIZE))
    images = InMemory(part.images, part.labels)
    monkeypatch.setattr(advance, "open_images", lambda place: place)
    train: dict[Protocol, InMemory] = {"frozen": images, "full": images}
    return replace(make_task(setting), train=train, validation=images, test=images)  # type: ignore[arg-type]


def newest(checkpoints: Checkpoints) -> TaskCheckpoint:
    name = checkpoints.newest()
    assert name is not None
    return checkpoints.read(name)


def make_net(setting: Setting) -> ReassembledNet:
    return zs.assemble(MIXED, setting.zoo, init="random", num_classes=10, seed=1)


def test_an_interrupted_task_ends_as_if_it_had_not_been(
    setting: Setting, task: TrainingTask, tmp_path: Path
) -> None:
    """From a checkpoint in the middle of an epoch as from one at its end, of either protocol."""
    recorder = Recorder()
    task = replace(task, schedule=replace(task.schedule, ema=0.9))
    whole = tune(task, make_net(setting), HERE, recorder)
    steps = round(len(task.test) / task.schedule.batch_size)  # type: ignore[arg-type]
    assert len(recorder.taken) == 2 * 2 * (steps + 1)
    middles = [c for c in recorder.taken if 0 < c.snapshot.begun.steps < steps]
    ends = [c for c in recorder.taken if c.snapshot.begun.steps == 0]
    assert [c.protocol for c in ends] == ["frozen", "frozen", "full", "full"]
    last = next(c for c in recorder.taken if c.snapshot.begun.steps == steps)
    for number, checkpoint in enumerate([ends[0], middles[1], middles[-1], last, ends[1]]):
        checkpoints = Checkpoints(RunStore(tmp_path / str(number)), "k")
        checkpoints.write(checkpoint)
        again = tune(task, make_net(setting), HERE, Watcher(), newest(checkpoints))
        assert all(torch.equal(value, again.state[key]) for key, value in whole.state.items())
        assert np.array_equal(again.predicted, whole.predicted)
        for protocol, record in whole.protocols.items():
            other = again.protocols[protocol]
            assert other.test_accuracy == record.test_accuracy
            assert other.kept == record.kept is not None
            for now, before in zip(other.curve, record.curve, strict=True):
                assert now.train_loss == before.train_loss
                assert now.train_accuracy == before.train_accuracy
                assert now.validation_accuracy == before.validation_accuracy is not None
                assert now.rate == before.rate > 0
                assert now.images_per_second > 0


def test_rates_and_speeds_are_told(setting: Setting, task: TrainingTask) -> None:
    made = tune(task, make_net(setting), HERE, Watcher())
    curve = made.protocols["full"].curve
    assert np.isfinite([p.rate for p in curve]).all()
    assert curve[-1].rate < curve[0].rate < task.schedule.lr_full
    assert all(p.images_per_second > 0 for p in curve)
    assert {p.device_memory for p in curve} == {0}


def test_full_tuning_begins_with_what_it_trains(setting: Setting, task: TrainingTask) -> None:
    """A network that was fitted under the running statistics of its blocks does not start anew."""
    images = task.train["full"]
    assert isinstance(images, InMemory)
    told = {}
    for renew in (True, False):
        net = zs.assemble(
            MIXED, setting.zoo, images=images.images, labels=images.labels, num_classes=10
        )
        schedule = replace(task.schedule, renew=renew, epochs_frozen=4, augment="none")
        made = tune(replace(task, schedule=schedule), net, HERE, Watcher())
        frozen, full = (made.protocols[p].curve for p in ("frozen", "full"))
        told[renew] = full[0].train_loss / frozen[-1].train_loss
    assert told[True] < 2 < told[False]
