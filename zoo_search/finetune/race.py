"""Who goes on: all networks are trained once, and the best of each role with the other seeds, too.

Which these are follows from what lies in the run directory, so that every worker, the driver and a
run that was killed find the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import Role
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import failure_of, folder_of, protocols_of

COMPARED: tuple[Role, ...] = ("reassembly", "single", "random")
"""Roles of which as many networks race, and whose best ones are compared."""


@dataclass(frozen=True)
class Runner:
    """A network in the race.

    Attributes:
        first: Key of the training that decides whether it goes on.
        rest: Its other trainings.
    """

    role: Role
    first: str
    rest: Sequence[TrainingTask]


@dataclass(frozen=True)
class Race:
    """All networks, in the order of the search, and how many of each compared role go on."""

    runners: Sequence[Runner] = ()
    finalists: int = 1

    @property
    def expected(self) -> list[TrainingTask]:
        """As many of the other trainings as there will be: those of the first networks."""
        return [task for runner in self._some(self.runners) for task in runner.rest]

    def further(self, store: RunStore) -> list[TrainingTask] | None:
        """Return the trainings that come after the first ones; None until these have ended.

        Of a compared role those go on that do best on the validation images, by accuracy, then by
        loss; where nothing judges them, those that the search put first. Of other roles all go on.
        What diverged does not.
        """
        keys = {runner.first for runner in self.runners}
        failed = {key for key in keys if failure_of(store, key) is not None}
        if not all(store.exists(folder_of(key)) for key in keys - failed):
            return None
        ended = [runner for runner in self.runners if runner.first not in failed]
        ended.sort(key=lambda runner: _judged(store, runner.first))
        further = [task for runner in self._some(ended) for task in runner.rest]
        return list({task.key: task for task in further}.values())

    def _some(self, runners: Sequence[Runner]) -> list[Runner]:
        others = [runner for runner in runners if runner.role not in COMPARED]
        for role in COMPARED:
            others += [runner for runner in runners if runner.role == role][: self.finalists]
        return others


NOBODY = Race()
"""No race: all tasks are wanted."""


def _judged(store: RunStore, key: str) -> tuple[float, float]:
    kept = list(protocols_of(store, key).values())[-1].kept
    return (0.0, 0.0) if kept is None else (-kept.validation_accuracy, kept.validation_loss)
