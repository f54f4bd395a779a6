"""The step ``finetune`` of a run: winners and baselines through Ray Train, onto disk."""

from __future__ import annotations

import copy
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.core.errors import UserError, nearest
from zoo_search.core.identity import fingerprint
from zoo_search.costs.table import CostTable
from zoo_search.export.folder import save_folder
from zoo_search.finetune.entries import Entry, GivenUp, Result, Winners
from zoo_search.finetune.networks import Network, build_networks
from zoo_search.finetune.places import Places, Split
from zoo_search.finetune.tasks import TrainingTask, schedule_of
from zoo_search.finetune.trained import (
    Failure,
    earlier_winners,
    folder_of,
    keep_trained,
    read_trained,
    read_winner,
)
from zoo_search.finetune.trainers import train_all
from zoo_search.finetune.variants import fill_variant, plan_variant
from zoo_search.zoo.checkpoint import state_sha256

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.core.store import RunStore
    from zoo_search.costs.budget import Cost
    from zoo_search.data.base import Subset, VisionDataset
    from zoo_search.zoo.models import Zoo

_TRAINING = 6
"""Version of how a network is started and trained: a task of another version is trained anew."""


def run(
    entries: Sequence[Entry], zoo: Zoo, dataset: VisionDataset, job: JobConfig, store: RunStore
) -> list[Result]:
    """Fine-tune every entry and the job's variants; write ``winners.json`` and ``winners/<i>/``.

    The test images are looked at only when a protocol has ended: they choose nothing. A run that
    was killed goes on with the networks that were not finished, and with the one in work from
    its last checkpoint; what an earlier run of the same directory has fine-tuned in the same way is
    taken over. The same network under two roles is trained once. A network whose training diverges
    is named in ``winners.json``; the others go on. Workers on other machines have to reach the
    store, too.

    Raises:
        UserError: If no reassembly comes to its end, something has to be mended before a training
            can go on, or a variant cannot be made.
    """
    names = [entry.name for entry in entries]
    for name, change in job.finetune.variants.items():
        if change.of not in names:
            raise UserError(
                f"finetune.variants.{name}.of: no network '{change.of}' is fine-tuned."
                f"{nearest(change.of, names)} Allowed: {', '.join(names)}."
            )
    tuning = _Tuning(dataset, job, store)
    networks = build_networks(entries, zoo, tuning.train_set, job)
    by_name = {network.entry.name: network for network in networks}
    planned = []
    for name, change in job.finetune.variants.items():
        winner = by_name[change.of]
        planned.append((plan_variant(name, change, winner, len(dataset.classes), job), winner))
    # Hooks that fail, or fill nothing, are found before the training, on copies.
    for variant, winner in planned:
        fill_variant(replace(variant, net=copy.deepcopy(variant.net)), winner, "", job.seed)
    tasks, failures = tuning.train(networks)
    lost = {n.entry.name for n in networks if tasks[n.entry.recipe.key].key in failures}
    filled = [
        fill_variant(variant, winner, tasks[winner.entry.recipe.key].key, job.seed)
        for variant, winner in planned
        if winner.entry.name not in lost
    ]
    more, failed = tuning.train(filled)
    tasks, failures = {**tasks, **more}, {**failures, **failed}
    trained, given_up = [], []
    for network in [*networks, *filled]:
        failure = failures.get(tasks[network.entry.recipe.key].key)
        if failure is None:
            trained.append(network)
        else:
            given_up.append(GivenUp(network.entry.name, network.entry.role, failure.reason))
    given_up += [
        GivenUp(variant.entry.name, "variant", f"'{winner.entry.name}' came to no end")
        for variant, winner in planned
        if winner.entry.name in lost
    ]
    if not any(network.entry.role == "reassembly" for network in trained):
        raise UserError(f"No reassembly could be fine-tuned: {given_up[0].reason}")
    results = [
        tuning.export(network, tasks[network.entry.recipe.key], f"winners/{number}")
        for number, network in enumerate(trained)
    ]
    Winners(
        dataset.name,
        dataset.classes,
        train_images=tuning.images("train"),
        test_images=tuning.images("test"),
        results=tuple(results),
        given_up=tuple(given_up),
    ).write(store)
    for surplus in set(store.list("winners")) - {str(n) for n in range(len(results))}:
        store.remove(f"winners/{surplus}")
    return results


class _Tuning:
    """Trains networks of one run and exports them."""

    def __init__(self, dataset: VisionDataset, job: JobConfig, store: RunStore) -> None:
        self._dataset, self._job, self._store = dataset, job, store
        config = job.finetune
        self._places = Places(dataset, job.seed, config.validation, config.keep_decoded)
        self._earlier = earlier_winners(store)

    @property
    def train_set(self) -> Subset:
        """The images that are trained on."""
        return self._places.splits["train"]

    def images(self, split: Split) -> int:
        """Return the number of images of a split."""
        return len(self._places.splits[split])

    def train(
        self, networks: Sequence[Network]
    ) -> tuple[dict[str, TrainingTask], dict[str, Failure]]:
        """Give the networks their fine-tuned weights.

        Returns:
            Their tasks by recipe, and by the key of a task why it has no end.
        """
        tasks = {network.entry.recipe.key: self._task(network) for network in networks}
        for task in tasks.values():
            if task.key in self._earlier and not self._store.exists(folder_of(task.key)):
                taken_over = read_winner(self._store, self._earlier[task.key])
                keep_trained(self._store, task.key, taken_over)
        failures = train_all(list(tasks.values()), self._store, self._job.finetune, self._job.name)
        for network in networks:
            key = tasks[network.entry.recipe.key].key
            if key not in failures:
                network.net.load_state_dict(dict(read_trained(self._store, key).state))
        return tasks, failures

    def export(self, network: Network, task: TrainingTask, folder: str) -> Result:
        """Write a trained network as a folder of the run directory."""
        entry, cost = network.entry, self._cost(network)
        result = Result(
            name=entry.name,
            role=entry.role,
            recipe=entry.recipe,
            params=cost.params,
            macs=cost.macs,
            scores=dict(entry.scores),
            protocols=read_trained(self._store, task.key).protocols,
            folder=folder,
            task=task.key,
            init=network.reports,
            of=network.of,
        )
        with self._store.local_folder(folder) as place:
            save_folder(
                network.net,
                place,
                recipe=entry.recipe,
                zoo=network.models,
                classes=self._dataset.classes,
                metadata={
                    **result.to_dict(),
                    "dataset": self._dataset.name,
                    "state_sha256": state_sha256(network.net.state_dict()),
                    "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                },
            )
        return result

    def _task(self, network: Network) -> TrainingTask:
        """Return what a worker needs to train a network."""
        import ray

        recipe, config = network.entry.recipe, self._job.finetune
        schedule, protocols = schedule_of(network, self._job)
        transform = network.models[recipe.blocks[0].model].transform
        made_from = [
            _TRAINING,
            recipe.to_dict(),
            {name: model.identity for name, model in network.models.items()},
            [self._dataset.fingerprint, self._job.seed, list(protocols), schedule.identity()],
            list(network.start),
            [config.precision, config.sync_bn, config.accumulate, config.validation],
        ]
        return TrainingTask(
            key=fingerprint(made_from)[:16],
            name=network.entry.name,
            recipe=recipe,
            net=ray.put(network.net),
            train={p: self._places.train(transform, schedule, p) for p in protocols},
            validation=self._places.whole("validation", transform) if config.validation else None,
            test=self._places.whole("test", transform),
            transform=transform,
            schedule=schedule,
            protocols=protocols,
            num_classes=len(self._dataset.classes),
            seed=self._job.seed,
            macs=self._cost(network).macs,
        )

    def _cost(self, network: Network) -> Cost:
        costs = CostTable(network.models, len(self._dataset.classes))
        return costs.cost(network.entry.recipe)
