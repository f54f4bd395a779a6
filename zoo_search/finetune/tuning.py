"""Networks of a run and their trainings: how each begins, what it gave, what is exported."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.core.errors import some
from zoo_search.core.identity import fingerprint
from zoo_search.core.progress import console
from zoo_search.costs.table import CostTable
from zoo_search.export.folder import save_folder
from zoo_search.finetune.entries import (
    Entry,
    GivenUp,
    Result,
    Training,
    Winners,
    best,
)
from zoo_search.finetune.images.places import Places, folds_of
from zoo_search.finetune.networks import Network, build_networks
from zoo_search.finetune.race import COMPARED, Race, Runner
from zoo_search.finetune.tasks import TrainingTask, schedule_of
from zoo_search.finetune.trained import (
    Failure,
    Trained,
    earlier_winners,
    folder_of,
    read_trained,
    take_over,
    write_predictions,
)
from zoo_search.finetune.trainers import train_all
from zoo_search.finetune.variants import fill_variant
from zoo_search.zoo.checkpoint import state_sha256

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.core.store import RunStore
    from zoo_search.costs.budget import Cost
    from zoo_search.data.base import VisionDataset
    from zoo_search.training.schedules import Protocol
    from zoo_search.zoo.models import Zoo

_TRAINING = 7
"""Version of how a network is started and trained: a task of another version is trained anew."""


@dataclass(frozen=True, eq=False)
class Start:
    """A network before its trainings, and these."""

    network: Network
    tasks: Sequence[TrainingTask]

    @property
    def entry(self) -> Entry:
        """What is asked for."""
        return self.network.entry


class Tuning:
    """Trains networks of one run, some seeds each, and exports them."""

    def __init__(self, zoo: Zoo, dataset: VisionDataset, job: JobConfig, store: RunStore) -> None:
        self._zoo, self._dataset, self._job, self._store = zoo, dataset, job, store
        config = job.finetune
        self._seeds = [job.seed + number for number in range(config.seeds)]
        self._folds = folds_of(dataset, job.seed, config.validation, config.seeds)
        self._places = Places(dataset, self._folds, job.seed, config.keep_decoded)
        self._earlier = earlier_winners(store)
        self._tasks: dict[str, TrainingTask] = {}

    def starts(self, entries: Sequence[Entry]) -> list[Start]:
        """Assemble every entry for each of its trainings."""
        return self._starts(entries, range(len(self._folds)), self._job.finetune.protocol)

    def change(self, variant: Network, winner: Start, result: Result) -> Start:
        """Fill a variant from a winner's weights.

        It is judged on the images that the winner was not trained on.
        """
        training = result.told[result.exported]
        self._load(winner.network, training)
        filled = fill_variant(variant, winner.network, training.task, self._job.seed)
        protocols = self._job.finetune.protocol
        return Start(filled, [self._task(filled, s, training.fold, protocols) for s in self._seeds])

    def race(self, starts: Sequence[Start]) -> tuple[list[Result], list[GivenUp]]:
        """Train all with the first seed, and those that do best with the other seeds, too.

        Returns:
            What their trainings gave, and what came to no end.
        """
        self._take_over([start.tasks for start in starts])
        firsts = {start.tasks[0].key: start.tasks[0] for start in starts}
        runners = [Runner(s.entry.role, s.tasks[0].key, s.tasks[1:]) for s in starts]
        race = Race(runners, self._job.finetune.finalists)
        config, name = self._job.finetune, self._job.name
        failures = train_all(list(firsts.values()), self._store, config, name, race)
        trained = firsts.keys() | {task.key for task in race.further(self._store) or ()}
        return self._results(
            [replace(s, tasks=[t for t in s.tasks if t.key in trained]) for s in starts], failures
        )

    def train(self, starts: Sequence[Start]) -> tuple[list[Result], list[GivenUp]]:
        """Train all with all seeds; as :meth:`race`."""
        return self._results(starts, self._train([start.tasks for start in starts]))

    def _results(
        self, starts: Sequence[Start], failures: Mapping[str, Failure]
    ) -> tuple[list[Result], list[GivenUp]]:
        results, given_up = [], []
        for start in starts:
            entry, cost = start.entry, self._cost(start.network)
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
            result.name: self._starts(
                [starts[result.name].entry], [None] * len(self._seeds), self._lasting(result)
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
        result, test = replace(result, folder=folder), self._places.test_set
        self._load(network, result.told[result.exported])
        told = {
            t.seed: self._whole(t, lambda trained: len(trained.predicted) == len(test)).predicted
            for t in result.told
        }
        with self._store.local_folder(folder) as place:
            save_folder(
                network.net,
                place,
                recipe=result.recipe,
                zoo=network.models,
                classes=self._dataset.classes,
                metadata={
                    **result.to_dict(),
                    "dataset": self._dataset.name,
                    "state_sha256": state_sha256(network.net.state_dict()),
                    "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                },
            )
            write_predictions(place, test.ids, test.labels, told)
        return result

    def write(self, results: Sequence[Result], given_up: Sequence[GivenUp]) -> None:
        """Write ``winners.json``, and remove folders that are none of its own."""
        fold = self._folds[0]
        Winners(
            self._dataset.name,
            self._dataset.classes,
            train_images=len(fold.train),
            validation_images=len(fold.validation or ()),
            test_images=len(self._places.test_set),
            results=tuple(results),
            given_up=tuple(given_up),
        ).write(self._store)
        numbers = {str(number) for number in range(len(results))}
        for surplus in set(self._store.list("winners")) - numbers:
            self._store.remove(f"winners/{surplus}")

    def _starts(
        self,
        entries: Sequence[Entry],
        folds: Sequence[int | None],
        protocols: Sequence[Protocol],
    ) -> list[Start]:
        """Assemble entries for each training, the network of the first one being what is kept."""
        networks: list[Network] = []
        tasks: list[list[TrainingTask]] = [[] for _ in entries]
        for seed, fold in zip(self._seeds, folds, strict=True):
            images = self._places.whole if fold is None else self._folds[fold].train
            made = build_networks(entries, self._zoo, images, self._job, seed)
            networks = networks or made
            known: dict[str, TrainingTask] = {}
            for network, mine in zip(made, tasks, strict=True):
                key = network.entry.recipe.key
                if key not in known:
                    known[key] = self._task(network, seed, fold, protocols)
                mine.append(known[key])
        return [Start(network, mine) for network, mine in zip(networks, tasks, strict=True)]

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

    def _task(
        self, network: Network, seed: int, fold: int | None, protocols: Sequence[Protocol]
    ) -> TrainingTask:
        """Return what a worker needs to train a network."""
        import ray

        recipe, config = network.entry.recipe, self._job.finetune
        schedule, protocols = schedule_of(network, self._job, protocols)
        transform = network.models[recipe.blocks[0].model].transform
        held = None if fold is None else self._folds[fold]
        images = self._places.whole if held is None else held.train
        judges = None if held is None else held.validation
        made_from = [
            _TRAINING,
            recipe.to_dict(),
            {name: model.identity for name, model in network.models.items()},
            [self._dataset.fingerprint, seed, list(protocols), schedule.identity()],
            [images.fingerprint, None if judges is None else judges.fingerprint],
            list(network.start),
            [config.precision, config.sync_bn, config.accumulate],
        ]
        several = len(self._seeds) > 1
        return TrainingTask(
            key=fingerprint(made_from)[:16],
            name=f"{network.entry.name} seed {seed}" if several else network.entry.name,
            recipe=recipe,
            net=ray.put(network.net),
            train={p: self._places.train(fold, transform, schedule, p) for p in protocols},
            validation=self._places.validation(fold, transform),
            test=self._places.test(transform),
            transform=transform,
            schedule=schedule,
            protocols=protocols,
            num_classes=len(self._dataset.classes),
            seed=seed,
            fold=fold,
            macs=self._cost(network).macs,
        )

    def _cost(self, network: Network) -> Cost:
        costs = CostTable(network.models, len(self._dataset.classes))
        return costs.cost(network.entry.recipe)


def _most_fit(trainings: Sequence[Training]) -> int:
    """Return which training does best on the images that judge it; the first where none do."""

    def order(place: int) -> tuple[float, float]:
        kept = trainings[place].kept
        return (0.0, 0.0) if kept is None else (-kept.validation_accuracy, kept.validation_loss)

    return min(range(len(trainings)), key=order)
