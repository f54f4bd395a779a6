"""A race as an experiment of Ray Tune: legs go to the hosts of the run, records come back.

Imports Ray Tune, so only what runs a race imports this module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import ray

from zoo_search import cluster
from zoo_search.cluster.experiment import run_experiment
from zoo_search.cluster.hosts import Hosts, Role
from zoo_search.config import FinetuneConfig
from zoo_search.core.progress import Bar, console, progress
from zoo_search.core.store import RunStore
from zoo_search.finetune.advance import Terms
from zoo_search.finetune.lanes.layout import lay_out
from zoo_search.finetune.race.halving import Leg
from zoo_search.finetune.race.legs import LegTrainer
from zoo_search.finetune.race.study import Race
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.training.metrics import METRICS


def run_race(
    race: Race, tasks: int, store: RunStore, config: FinetuneConfig, run: str, hosts: Hosts
) -> None:
    """Run all legs of a race, each on one worker; one that lies in the run directory is not run.

    Args:
        tasks: Networks that take part, by which the workers are laid out.

    Raises:
        UserError: If nothing happens for long (:class:`zoo_search.cluster.Timeout`).
    """
    first = race.ask()
    if first is None:
        return
    found = cluster.connect()
    streams = any(racer.task.streams for racer in race.racers)
    batch = race.task(first).schedule.batch_size
    lay_out(found, tasks, config, batch=batch, streams=streams)  # what is wrong with it shows now
    alone = {"workers": 1, "gpus_per_worker": 1.0, "sync_bn": False}  # a host has a GPU or none
    single = config.model_copy(update=alone)
    layout = lay_out(found, tasks, single, batch=batch, streams=streams)
    race.lanes = layout.lanes
    pulse = cluster.pulse()
    terms = Terms.of(layout, store, single, run, pulse)
    role = Role.of(LegTrainer, (terms, "timm" in sys.modules))
    with progress("race", *race.expected) as bar:
        legs = _Legs(race, first, bar, cluster.Listener(pulse))
        race.listeners.append(legs.note)
        run_experiment(
            legs, role, hosts, layout.lanes, name="race", gpu=layout.gpus > 0, on_look=legs.look
        )


class _Legs:
    """The legs of a race, whose records come as text."""

    def __init__(self, race: Race, first: Leg, bar: Bar, listener: cluster.Listener) -> None:
        self._race, self._first, self._bar, self._listener = race, [first], bar, listener
        self._sent: dict[str, ray.ObjectRef[TrainingTask]] = {}
        self._lines: list[str] = []
        self._under_way: set[Leg] = set()
        self._limit = cluster.Timeout("the race")

    def ask(self) -> Leg | None:
        leg = self._first.pop() if self._first else self._race.ask()
        self._bar.resize(*self._race.expected)
        if leg is not None:
            self._limit.progress()  # to assemble further networks takes its time
            self._under_way.add(leg)
        return leg

    def arguments(self, asked: Leg) -> Sequence[object]:
        task = self._race.task(asked)
        if task.key not in self._sent:
            self._sent[task.key] = ray.put(task)
        return [[self._sent[task.key]], asked.until]

    def tell(self, asked: Leg, answer: str | None) -> None:
        self._under_way.discard(asked)
        self._race.tell(asked, answer)
        self._limit.progress()

    def note(self, leg: Leg) -> None:
        """Show that a leg has come to its end."""
        task, record = self._race.task(leg), self._race.records.get(leg)
        what = "of the validation images" if task.metric == "accuracy" else METRICS[task.metric]
        found = f"{record.score:.1%} {what}" if record else "given up"
        note = f"{task.name}, {leg.until} of {task.epochs} epochs: {found}"
        self._bar.advance(1, note=note, work=self._race.work(leg), name=task.name)

    def look(self) -> None:
        """Show how far legs are that are under way, and what was told of them."""
        heard = self._listener.news()
        if heard is not None:
            self._limit.progress()
            for line in heard.told[len(self._lines) :]:
                console.print(f"  {line}")
            self._lines = list(heard.told)
            for leg in self._under_way:
                task = self._race.task(leg)
                if task.name in heard.shares:
                    left = (leg.until - heard.shares[task.name] * task.epochs) * task.macs
                    done = max(0.0, self._race.work(leg) - left)
                    self._bar.under_way(task.name, min(done, self._race.work(leg)))
        self._limit.check()
