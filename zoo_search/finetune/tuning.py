"""Networks of a run and their trainings: how each begins, what it gave, what is exported."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.core.errors import some
from zoo_search.core.progress import console
from zoo_search.core.redaction import redacted
from zoo_search.export.folder import save_folder
from zoo_search.finetune.entries import (
    COMPARED,
    GivenUp,
    Raced,
    Result,
    Training,
    Winners,
    best,
)
from zoo_search.finetune.lanes.trainers import train_all
from zoo_search.finetune.networks import Network
from zoo_search.finetune.starts import Start, Starts
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import (
    FILES_OF_A_WINNER,
    Failure,
    Trained,
    earlier_winners,
    folder_of,
    read_trained,
    take_over,
    write_predictions,
)
from zoo_search.finetune.variants import fill_variant
from zoo_search.zoo.checkpoint import state_sha256

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.core.store import RunStore
    from zoo_search.data.base import VisionDataset
    from zoo_search.training.schedules import Protocol


class Tuning:
    """Trains networks of one run, some seeds each, and exports them."""

    def __init__(
        self, starts: Starts, dataset: VisionDataset, job: JobConfig, store: RunStore
    ) -> None:
        self._starts, self._dataset, self._job, self._store = starts, dataset, job, store
        self._earlier = earlier_winners(store)
        self._tasks: dict[str, TrainingTask] = {}

    def change(self, variant: Network, winner: Start, result: Result) -> Start:
        """Fill a variant from a winner's weights.

        It is judged on the images that the winner was not trained on.
        """
        training = result.told[result.exported]
        self._load(winner.network, training)
        filled = fill_variant(variant, winner.network, training.task, self._job.seed)
        starts = self._starts
        tasks = [starts.task(filled, s, training.fold, starts.protocols) for s in starts.seeds]
        return Start(filled, tasks)

    def train(self, starts: Sequence[Start]) -> tuple[list[Result], list[GivenUp]]:
        """Train networks with the seeds that they have; return what that gave, and what failed."""
        return self._results(starts, self._train([start.tasks for start in starts]))

    def _results(
        self, starts: Sequence[Start], failures: Mapping[str, Failure]
    ) -> tuple[list[Result], list[GivenUp]]:
        results, given_up = [], []
        for start in starts:
            entry, cost = start.entry, self._starts.cost(start.network)
            failed = [failures[task.key] for task in start.tasks if task.key in failures]
            if failed:
                given_up.append(GivenUp(entry.name, entry.role, failed[0].reason))
                continue
            result = Result(
                name=entry.name,
                role=entry.role,
                recipe=entry.recipe,
                params=cost.params,
                macs=cost.macs,
                scores=dict(entry.scores),
                trainings=self._trainings(start.tasks),
                folder=None,
                init=start.network.reports,
                of=start.network.of,
                tuned=_tuned(start),
            )
            results.append(replace(result, exported=_most_fit(result.trainings)))
        return results, given_up

    def retrain(self, results: Sequence[Result], starts: Mapping[str, Start]) -> list[Result]:
        """Train the best network of each role again, on all training images.

        It goes through the protocols up to the one that most of its trainings ended with, to the
        end: nothing judges it.
        """
        chosen = [found for role in COMPARED if (found := best(results, role)) is not None]
        tasks = {
            result.name: self._starts.assemble(
                [(starts[result.name].entry, starts[result.name].values)],
                range(len(self._starts.seeds)),
                self._lasting(result),
                whole=True,
            )[0].tasks
            for result in chosen
        }
        failures = self._train(list(tasks.values()))
        if failures:  # what is compared is trained on the same images, or not at all
            names = [n for n, mine in tasks.items() if any(t.key in failures for t in mine)]
            console.print(
                f"  {some(names)} came to no end on all training images: what is told are the "
                "trainings that held some out, of all networks"
            )
            return list(results)
        return [
            replace(result, retrained=self._trainings(tasks[result.name]), exported=0)
            if result.name in tasks
            else result
            for result in results
        ]

    def export(self, result: Result, network: Network, folder: str) -> Result:
        """Write a trained network, and what it said of the test images, into the run directory."""
        result, test = replace(result, folder=folder), self._starts.places.test_set
        self._load(network, result.told[result.exported])
        told = {
            t.seed: self._whole(t, lambda trained: len(trained.predicted) == len(test)).predicted
            for t in result.told
        }
        with self._store.local_folder(folder, FILES_OF_A_WINNER) as place:
            save_folder(
                network.net,
                place,
                recipe=result.recipe,
                zoo=network.models,
                classes=self._dataset.classes,
                value_range=self._job.dataset.value_range,
                metadata={
                    **result.to_dict(),
                    "dataset": self._dataset.name,
                    "state_sha256": state_sha256(network.net.state_dict()),
                    "command": redacted(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
                },
            )
            write_predictions(place, test.ids, test.labels, told)
        return result

    def write(
        self, results: Sequence[Result], given_up: Sequence[GivenUp], raced: Sequence[Raced]
    ) -> None:
        """Write ``winners.json``, and remove folders that are none of its own."""
        fold = self._starts.folds[0]
        Winners(
            self._dataset.name,
            self._dataset.classes,
            train_images=len(fold.train),
            validation_images=len(fold.validation or ()),
            test_images=len(self._starts.places.test_set),
            results=tuple(results),
            given_up=tuple(given_up),
            race=tuple(raced),
            metric=self._job.finetune.metric,
        ).write(self._store)
        numbers = {str(number) for number in range(len(results))}
        for surplus in set(self._store.list("winners")) - numbers:
            if surplus.isdecimal():
                self._store.remove(f"winners/{surplus}", FILES_OF_A_WINNER)

    def _train(self, groups: Sequence[Sequence[TrainingTask]]) -> dict[str, Failure]:
        """Train what no earlier run has; return what diverged, by the key of its task."""
        self._take_over(groups)
        tasks = {task.key: task for group in groups for task in group}
        return train_all(list(tasks.values()), self._store, self._job.finetune, self._job.name)

    def _take_over(self, groups: Sequence[Sequence[TrainingTask]]) -> None:
        """Put what an earlier run has trained where finished tasks lie, network by network."""
        self._tasks |= {task.key: task for group in groups for task in group}
        for group in groups:
            keys = [task.key for task in group]
            for folder in {self._earlier[key] for key in keys if key in self._earlier}:
                take_over(self._store, folder, keys)

    def _trainings(self, tasks: Sequence[TrainingTask]) -> tuple[Training, ...]:
        return tuple(
            Training(t.seed, t.fold, read_trained(self._store, t.key).protocols, t.key)
            for t in tasks
        )

    def _lasting(self, result: Result) -> tuple[Protocol, ...]:
        """Return the protocols up to the one that most trainings of a network ended with."""
        protocols = tuple(result.protocols)
        ends = [t.kept.protocol if t.kept else protocols[-1] for t in result.trainings]
        return protocols[: protocols.index(Counter(ends).most_common(1)[0][0]) + 1]

    def _load(self, network: Network, training: Training) -> None:
        """Give a network the weights of a training."""
        state = self._whole(training, lambda trained: bool(trained.state)).state
        network.net.load_state_dict(dict(state))

    def _whole(self, training: Training, there: Callable[[Trained], bool]) -> Trained:
        """Return a finished task; it is made again where an earlier run has not kept all of it."""
        trained = read_trained(self._store, training.task)
        if there(trained):
            return trained
        self._earlier.pop(training.task, None)
        self._store.remove(folder_of(training.task))
        self._train([[self._tasks[training.task]]])
        return read_trained(self._store, training.task)


def _most_fit(trainings: Sequence[Training]) -> int:
    """Return which training does best on the images that judge it; the first where none do."""

    def order(place: int) -> tuple[float, float]:
        kept = trainings[place].kept
        return (0.0, 0.0) if kept is None else (-kept.score, kept.validation_loss)

    return min(range(len(trainings)), key=order)


def _tuned(start: Start) -> dict[str, float]:
    """Return which values of the schedule are a network's own."""
    if start.values is None:
        return {}
    schedule, last = start.tasks[0].schedule, start.tasks[0].protocols[-1]
    return {f"lr_{last}": schedule.lr(last), "weight_decay": schedule.decay(last)}
