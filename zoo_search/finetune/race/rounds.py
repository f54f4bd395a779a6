"""The rounds of a race, and who takes part in them.

A round is a bracket of :mod:`~zoo_search.finetune.race.halving`, in which some of many networks
come to the end, or a wave: another try at learning rate and weight decay for each network that is
ahead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from zoo_search.finetune.race.halving import Known, Leg, Runner, State, epochs_needed, state_of
from zoo_search.finetune.tasks import TrainingTask, Values


@dataclass(frozen=True)
class Racer:
    """A network that takes part: who it is, and its training with the schedule's own values."""

    name: str
    kind: str
    task: TrainingTask
    stays: bool = False


@dataclass(frozen=True)
class Try:
    """A training of a racer to the end."""

    racer: Racer
    task: TrainingTask
    values: Values | None = None  # None: the schedule's own


@dataclass(frozen=True)
class Bracket:
    """Many networks begin, some come to the end."""

    racers: tuple[Racer, ...]
    stops: tuple[int, ...]
    winners: int

    def state(self, known: Known) -> State:
        """Return which legs come next, and who is ahead, by what is known."""
        runners = [Runner(r.task.key, r.kind, r.stays) for r in self.racers]
        return state_of(runners, self.stops, self.winners, known)

    def ended(self, known: Known) -> list[Racer]:
        """Return who came to the end."""
        return self.those(self.state(known).ended)

    def those(self, runners: Sequence[Runner]) -> list[Racer]:
        """Return the networks behind runners, in the order in which they began."""
        there = {(runner.key, runner.kind) for runner in runners}
        return [racer for racer in self.racers if (racer.task.key, racer.kind) in there]

    def size(self) -> tuple[int, float]:
        """Return how many legs it has, and about how much work, if nothing diverges."""
        numbers = Counter(racer.kind for racer in self.racers)
        epochs, legs = epochs_needed(numbers, self.stops, self.winners)
        macs = sum(racer.task.macs for racer in self.racers) / len(self.racers)
        return legs, macs * epochs

    @property
    def trainings(self) -> set[str]:
        """The keys of its trainings."""
        return {racer.task.key for racer in self.racers}


@dataclass(frozen=True)
class Wave:
    """Networks are trained to the end once more, each with other values."""

    tries: tuple[Try, ...]
    end: int

    def state(self, known: Known) -> State:
        """Return which legs come next, by what is known."""
        legs = [Leg(one.task.key, self.end) for one in self.tries]
        return State(tuple(leg for leg in legs if leg not in known))

    def size(self) -> tuple[int, float]:
        """Return how many legs it has, and how much work."""
        return len(self.tries), float(sum(own_work(one.task) for one in self.tries))

    @property
    def trainings(self) -> set[str]:
        """The keys of its trainings."""
        return {one.task.key for one in self.tries}


def own_work(task: TrainingTask) -> int:
    """Return the work of a training that begins where another has come to, or at the start."""
    begun = task.epochs_before(task.protocols[-1]) if task.like is not None else 0
    return task.macs * (task.epochs - begun)
