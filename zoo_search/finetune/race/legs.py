"""What a host of the run does in the race: it trains a network as far as it is asked to."""

from __future__ import annotations

import json
import time

import ray
import torch

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.imports import import_timm
from zoo_search.core.store import RunStore
from zoo_search.finetune.advance import Terms, advance
from zoo_search.finetune.race.halving import Leg
from zoo_search.finetune.race.records import Record, write_record
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import Failure, is_finished, protocols_of
from zoo_search.training.choice import Kept, as_written
from zoo_search.training.machine import ALONE


class LegTrainer:
    """The role of a host; it answers with what chooses on the validation images, and a record.

    The record lies in the run directory before it is told, so that nothing is lost with the driver.
    """

    def __init__(self, terms: Terms, timm: bool) -> None:
        if timm:
            import_timm()
        torch.set_num_threads(terms.threads)
        self._terms, self._store = terms, RunStore(terms.store)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, task: list[ray.ObjectRef[TrainingTask]], until: int) -> tuple[float, str]:
        """Train a task until so many epochs are done."""
        found = ray.get(task[0])
        answer: Record | Failure
        try:
            answer = train_leg(found, self._store, self._terms, self._device, until)
        except ray.exceptions.RayError:
            raise  # another host can do it
        except UserError as error:
            answer = Failure(str(error), diverged=False)
        except Exception as error:
            answer = Failure(f"{type(error).__name__}: {first_line(error)}", diverged=False)
        score = 0.0 if isinstance(answer, Failure) else answer.score
        return score, json.dumps(as_written(answer))


def train_leg(
    task: TrainingTask, store: RunStore, terms: Terms, device: torch.device, until: int
) -> Record | Failure:
    """Train a task until so many epochs are done, and write down what that gave."""
    begun = time.monotonic()
    last = until >= task.epochs
    kept: Kept | Failure | None
    if last and is_finished(store, task.key):  # the process ended before it was written down
        kept = list(protocols_of(store, task.key).values())[-1].kept
    else:
        kept = advance(task, store, terms, ALONE, device, None if last else until)
    if isinstance(kept, Failure):  # not written down: the same command tries again
        return kept
    assert kept is not None, "a race is judged by validation images"
    seconds = round(time.monotonic() - begun, 3)
    record = Record(kept.validation_accuracy, kept.validation_loss, seconds, kept.validation_score)
    write_record(store, Leg(task.key, until), record)
    return record
