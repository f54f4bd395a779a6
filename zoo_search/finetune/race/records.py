"""What the legs of a race gave, in the run directory: a leg that lies there is not made again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zoo_search.core.store import RunStore
from zoo_search.finetune.race.halving import Judged, Leg
from zoo_search.finetune.trained import TASK, room_for
from zoo_search.training.choice import as_written, chooses

FOLDER = "race"


@dataclass(frozen=True)
class Record:
    """What a leg gave.

    Attributes:
        validation_accuracy: Of the weights that the training ends with, or, on the way, the best so
            far; likewise the loss.
        validation_loss: In nats.
        seconds: That it took.
        validation_score: What chooses, where that is not the accuracy.
    """

    validation_accuracy: float
    validation_loss: float
    seconds: float
    validation_score: float | None = None

    @property
    def score(self) -> float:
        """What chooses."""
        return chooses(self.validation_accuracy, self.validation_score)

    @property
    def judged(self) -> Judged:
        """How the network does."""
        return Judged(1 - self.score, self.validation_loss)


def _name(leg: Leg) -> str:
    return f"{FOLDER}/{leg.key}/{leg.until:06d}.json"


def write_record(store: RunStore, leg: Leg, record: Record) -> None:
    """Write what a leg gave.

    Raises:
        UserError: If there is no room for it.
    """
    with room_for("a result of the race", store):
        store.keep(_name(leg), as_written(record))


def read_record(store: RunStore, leg: Leg) -> Record | None:
    """Return what a leg gave; None where it was not made, or its record is damaged."""
    found = store.kept(_name(leg))
    return None if found is None else Record(**found)


def forget_others(store: RunStore, keys: Iterable[str]) -> None:
    """Remove the records of all but these trainings."""
    for name in set(store.list(FOLDER)) - set(keys):
        if TASK.fullmatch(name):
            store.remove(f"{FOLDER}/{name}")
