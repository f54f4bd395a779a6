"""A training that cannot go on is named; the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from small_runs import MIXED, Setting, make_task, race_here

from zoo_search import cluster
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.finetune import advance as advancing
from zoo_search.finetune import starts, step, tuning
from zoo_search.finetune.advance import Terms, advance
from zoo_search.finetune.entries import Entry, Winners
from zoo_search.finetune.lanes import trainers
from zoo_search.finetune.race import hold
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import Failure, failure_of, folder_of
from zoo_search.networks import Recipe
from zoo_search.training.machine import ALONE

pytestmark = pytest.mark.usefixtures("ray_cluster")


def train_lane(
    tasks: Sequence[TrainingTask], store: RunStore, config: Any, run: str
) -> dict[str, Failure]:
    """Do in this process what the worker of a lane does."""
    pulse = cluster.pulse()
    terms = Terms(store.url, 1, 1.0, 1.0, 0.0, pulse, run=run)
    for task in tasks:
        advance(task, store, terms, ALONE, torch.device("cpu"))
    told = ray.get(pulse.look.remote())[2]
    found = {task.key: failure_of(store, task.key) for task in tasks}
    assert len(told) == sum(failure is not None for failure in found.values())
    unfinished = [task for task in tasks if not store.exists(folder_of(task.key))]
    assert {t.key for t in unfinished} == {key for key, one in found.items() if one is not None}
    return {key: failure for key, failure in found.items() if failure is not None}


@pytest.fixture
def tried() -> list[Entry]:
    return [
        Entry("reassembly 1", "reassembly", MIXED, {}),
        Entry("a", "single", Recipe.whole("a", 2), {}),
    ]


def damaged(monkeypatch: pytest.MonkeyPatch, names: Sequence[str], value: float) -> None:
    """Let the heads of some networks be what no loss is finite with."""
    build = starts.build_networks

    def build_some(entries: Any, *rest: Any) -> Any:
        made = build(entries, *rest)
        for network in made:
            if network.entry.name in names:
                with torch.no_grad():
                    network.net.head.weight.fill_(value)
        return made

    monkeypatch.setattr(starts, "build_networks", build_some)
    monkeypatch.setattr(hold, "run_race", race_here)
    monkeypatch.setattr(tuning, "train_all", train_lane)


def test_one_that_diverges_is_named_and_the_others_go_on(
    setting: Setting, tmp_path: Path, tried: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path)
    tried[1] = replace(tried[1], recipe=Recipe.whole("a", len(setting.zoo["a"].graph)))
    damaged(monkeypatch, ["a"], float("nan"))
    results = step.run(tried, setting.zoo, setting.dataset, setting.job, store)
    assert [result.name for result in results] == ["reassembly 1"]
    read = Winners.read(store)
    assert read.results == tuple(results)
    ((name, role, reason),) = ((g.name, g.role, g.reason) for g in read.given_up)
    assert (name, role) == ("a", "single")
    assert "the loss is nan in epoch 1" in reason
    assert (tmp_path / "logs" / "reassembly+1").is_dir()


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, NotImplementedError, KeyError])
def test_what_another_try_would_not_mend_is_told_and_not_raised(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Ray Train starts a worker anew that raises, and trains the networks of its lane again."""

    def fail(*args: object) -> None:
        raise error("more than 1 value expected")

    monkeypatch.setattr(advancing, "tune", fail)
    store, net = RunStore(tmp_path), ray.put(torch.nn.Linear(1, 1))
    task = replace(make_task(setting), net=net)
    terms = Terms(store.url, 1, 1.0, 1.0, 0.0, cluster.pulse(), run="x")
    found = advance(task, store, terms, ALONE, torch.device("cpu"))
    assert isinstance(found, Failure)
    assert found == failure_of(store, task.key)
    assert not found.diverged
    assert f"{error.__name__}: " in found.reason
    assert "more than 1 value expected" in found.reason
    assert f"({Path(__file__).name}, line " in found.reason


def test_what_a_machine_does_is_tried_again(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("NCCL: remote process exited")

    monkeypatch.setattr(advancing, "tune", fail)
    store, net = RunStore(tmp_path), ray.put(torch.nn.Linear(1, 1))
    terms = Terms(store.url, 1, 1.0, 1.0, 0.0, cluster.pulse(), run="x")
    with pytest.raises(RuntimeError, match="NCCL"):
        advance(replace(make_task(setting), net=net), store, terms, ALONE, torch.device("cpu"))
    assert failure_of(store, "k") is None


def test_where_no_reassembly_ends_nothing_is_claimed(
    setting: Setting, tmp_path: Path, tried: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(monkeypatch, ["reassembly 1"], float("inf"))
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match=r"No reassembly could be fine-tuned: .*loss is"):
        step.run(tried[:1], setting.zoo, setting.dataset, setting.job, store)
    assert not store.exists("winners.json")


def test_nothing_is_left_of_what_was_tried(setting: Setting, tmp_path: Path) -> None:
    """The same command tries again what was given up before."""
    from zoo_search.finetune.trained import forget_failures, keep_failure

    store = RunStore(tmp_path)
    keep_failure(store, "k", Failure("why", False))
    assert failure_of(store, "k") == Failure("why", False)
    forget_failures(store)
    assert failure_of(store, "k") is None
    assert trainers.train_all([], store, setting.job.finetune, "x") == {}
