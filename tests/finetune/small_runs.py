"""Small runs of fine-tuning: what the fixtures of this folder are made of."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch

from zoo_search.config import JobConfig, load_job
from zoo_search.core.store import RunStore
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.finetune import selection, step
from zoo_search.finetune.advance import Terms, tune
from zoo_search.finetune.entries import Entry, Result
from zoo_search.finetune.race.legs import train_leg
from zoo_search.finetune.race.study import Race
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import Failure, folder_of, keep_trained
from zoo_search.finetune.watching import Watcher
from zoo_search.hooks import Context
from zoo_search.networks import BlockRef, Recipe
from zoo_search.training.machine import Machine
from zoo_search.training.schedules import SCHEDULES
from zoo_search.zoo import Zoo, load_zoo

SIZE = 32
MIXED = Recipe((BlockRef("a", 0, 2), BlockRef("b", 4, 8)))
OTHER = Recipe((BlockRef("b", 0, 6), BlockRef("a", 3, 4)))
HALVED: list[str] = []
"""Roles that the hook below was called for."""


def halve(module: torch.nn.Module, context: Context) -> dict[str, Any]:
    """A user's hook: it makes new heads smaller."""
    HALVED.append(context.role)
    for piece in context.pieces:
        if piece.name == "head":
            piece.module.get_parameter("weight").mul_(0.5)
    return {"factor": 0.5}


@dataclass(frozen=True)
class Setting:
    """A job with its zoo and its target."""

    job: JobConfig
    zoo: Zoo
    dataset: VisionDataset

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Setting:
        config = load_job(job)
        return cls(config, load_zoo(config), open_dataset(config.dataset, config.seed))


class Done(NamedTuple):
    """A run that has ended."""

    store: RunStore
    results: list[Result]


def tune_small(job: Mapping[str, Any], store: RunStore) -> list[Result]:
    """Fine-tune one reassembly, under two roles, and what the job asks for besides."""
    made = Setting.of(job)
    entries = [
        Entry("reassembly 1", "reassembly", MIXED, {"naswot": 2.0}),
        Entry("random recipe 1", "random", MIXED, {}),
        *selection._plain(made.job, made.zoo),
    ]
    return step.run(entries, made.zoo, made.dataset, made.job, store)


def train_here(
    tasks: Sequence[TrainingTask],
    store: RunStore,
    config: Any = None,
    run: str = "",
) -> dict[str, Failure]:
    """Do in this process what ``train_all`` has done through Ray Train."""
    import ray

    def train(task: TrainingTask) -> None:
        if not store.exists(folder_of(task.key)):
            trained = tune(task, ray.get(task.net), Machine(torch.device("cpu")), Watcher())
            keep_trained(store, task.key, trained)

    for task in tasks:
        train(task)
    return {}


def race_here(
    race: Race, tasks: int, store: RunStore, config: Any = None, run: str = "", hosts: Any = None
) -> None:
    """Do in this process what ``run_race`` has done through Ray Tune."""
    from zoo_search import cluster

    terms = Terms(store.url, 1, 1.0, 1.0, 0.0, cluster.pulse(), run=run)
    while (leg := race.ask()) is not None:
        answer = train_leg(race.task(leg), store, terms, torch.device("cpu"), leg.until)
        race.tell(leg, json.dumps(asdict(answer)))


def kill_hosts() -> list[int]:
    """Send SIGKILL to all hosts of the cluster that is connected; return their process ids."""
    import ray._private.state

    hosts = [
        actor["Pid"]
        for actor in ray._private.state.actors().values()
        if actor["ActorClassName"] == "Host" and actor["State"] == "ALIVE"
    ]
    for pid in hosts:
        os.kill(pid, signal.SIGKILL)
    return hosts


def make_task(setting: Setting, macs: int = 1, key: str = "k") -> TrainingTask:
    """A task without images and without a network."""
    quick = replace(SCHEDULES["few-shot"], epochs_frozen=2, epochs_full=2)
    nothing: Any = None
    return TrainingTask(
        key=key,
        name="net",
        recipe=MIXED,
        net=nothing,
        train={},
        validation=None,
        test=nothing,
        transform=setting.zoo["a"].transform,
        schedule=quick,
        protocols=("frozen", "full"),
        num_classes=10,
        seed=0,
        fold=None,
        macs=macs,
    )
