"""Networks of a run before their trainings, and what is needed for these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zoo_search.core.identity import fingerprint
from zoo_search.costs.table import CostTable
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.images.places import Places, folds_of
from zoo_search.finetune.networks import Network, build_networks
from zoo_search.finetune.tasks import TrainingTask, Values, schedule_of
from zoo_search.finetune.weighting import class_weights

if TYPE_CHECKING:
    import ray

    from zoo_search.config import JobConfig
    from zoo_search.costs.budget import Cost
    from zoo_search.data.base import VisionDataset
    from zoo_search.networks.network import ReassembledNet
    from zoo_search.training.schedules import Protocol
    from zoo_search.zoo.models import Zoo

_TRAINING = 10
"""Version of how a network is started and trained: a task of another version is trained anew."""


@dataclass(frozen=True, eq=False)
class Start:
    """A network before its trainings, and these; their last protocol may have values of its own."""

    network: Network
    tasks: Sequence[TrainingTask]
    values: Values | None = None

    @property
    def entry(self) -> Entry:
        """What is asked for."""
        return self.network.entry


class Starts:
    """Assembles networks of one run, and makes the tasks of their trainings."""

    def __init__(self, zoo: Zoo, dataset: VisionDataset, job: JobConfig) -> None:
        self._zoo, self._dataset, self._job = zoo, dataset, job
        config = job.finetune
        self.protocols: tuple[Protocol, ...] = config.protocol
        self.seeds = [job.seed + number for number in range(config.seeds)]
        self.folds = folds_of(dataset, job.seed, config.validation, config.seeds)
        self.places = Places(dataset, self.folds, job.seed, config.keep_decoded)
        self._refs: dict[int, tuple[ReassembledNet, ray.ObjectRef[ReassembledNet]]] = {}

    def first(self, entries: Sequence[Entry]) -> list[Start]:
        """Assemble every entry for its training with the first seed."""
        return self.assemble([(entry, None) for entry in entries], [0], self.protocols)

    def with_all_seeds(self, starts: Sequence[Start]) -> list[Start]:
        """Assemble networks for their trainings with the other seeds, too."""
        if not starts:
            return []
        more = range(1, len(self.seeds))
        asked = [(start.entry, start.values) for start in starts]
        further = self.assemble(asked, more, self.protocols) if more else starts
        return [
            replace(start, tasks=[*start.tasks, *other.tasks]) if more else start
            for start, other in zip(starts, further, strict=True)
        ]

    def assemble(
        self,
        asked: Sequence[tuple[Entry, Values | None]],
        seeds: Sequence[int],
        protocols: Sequence[Protocol],
        *,
        whole: bool = False,
    ) -> list[Start]:
        """Assemble entries for trainings, the network of the first one being what is kept.

        Args:
            asked: What, and with which values in the last protocol.
            seeds: Positions of seeds; each holds out images of its own.
            whole: None holds out any.
        """
        networks: list[Network] = []
        tasks: list[list[TrainingTask]] = [[] for _ in asked]
        entries = [entry for entry, _ in asked]
        for place in seeds:
            seed, fold = self.seeds[place], None if whole else place
            images = self.places.whole if fold is None else self.folds[fold].train
            made = build_networks(entries, self._zoo, images, self._job, seed)
            networks = networks or made
            for network, (_, values), mine in zip(made, asked, tasks, strict=True):
                mine.append(self.task(network, seed, fold, protocols, values))
        return [
            Start(network, mine, values)
            for network, mine, (_, values) in zip(networks, tasks, asked, strict=True)
        ]

    def task(
        self,
        network: Network,
        seed: int,
        fold: int | None,
        protocols: Sequence[Protocol],
        values: Values | None = None,
        like: str | None = None,
    ) -> TrainingTask:
        """Return what a worker needs to train a network."""
        recipe, config = network.entry.recipe, self._job.finetune
        schedule, protocols = schedule_of(network, self._job, protocols)
        if values is not None and protocols[-1] == self.protocols[-1]:
            schedule = values.put_into(schedule, protocols[-1])
        transform = network.models[recipe.blocks[0].model].transform
        held = None if fold is None else self.folds[fold]
        images = self.places.whole if held is None else held.train
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
        weights = class_weights(config.class_weights, images)
        told = {"metric": config.metric, "class_weights": weights}
        if told != {"metric": "accuracy", "class_weights": None}:  # came after the first runs
            made_from.append(told)
        name = network.entry.name if len(self.seeds) == 1 else f"{network.entry.name} seed {seed}"
        return TrainingTask(
            key=fingerprint(made_from)[:16],
            name=name if values is None else f"{name} ({values})",
            recipe=recipe,
            net=self._put(network),
            train={p: self.places.train(fold, transform, schedule, p) for p in protocols},
            validation=self.places.validation(fold, transform),
            test=self.places.test(transform),
            transform=transform,
            schedule=schedule,
            protocols=protocols,
            num_classes=len(self._dataset.classes),
            seed=seed,
            fold=fold,
            macs=self.cost(network).macs,
            like=like,
            metric=config.metric,
            class_weights=weights,
        )

    def cost(self, network: Network) -> Cost:
        """Return what a network costs."""
        costs = CostTable(network.models, len(self._dataset.classes))
        return costs.cost(network.entry.recipe)

    def _put(self, network: Network) -> ray.ObjectRef[ReassembledNet]:
        """Return a reference to a network as it was assembled, once for all tasks that begin so."""
        import ray

        key = id(network.net)
        if key not in self._refs:
            self._refs[key] = network.net, ray.put(network.net)
        return self._refs[key][1]
