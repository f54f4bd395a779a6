"""The step ``finetune`` of a run: winners and baselines through Ray Train, onto disk."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load

from zoo_search.errors import UserError, nearest
from zoo_search.export import save_folder
from zoo_search.finetune.drive import train_all
from zoo_search.finetune.entry import Entry, Result, Role
from zoo_search.finetune.lane import Task, Trained, folder_of, keep_trained, read_trained
from zoo_search.finetune.networks import Network, networks
from zoo_search.finetune.recipes import Protocol, TrainRecipe, train_recipe
from zoo_search.finetune.variants import fill_variant, plan_variant, rehearse
from zoo_search.reassembly.cost import CostTable
from zoo_search.store import fingerprint
from zoo_search.zoo.checkpoint import state_sha256

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.data.base import VisionDataset
    from zoo_search.store import RunStore
    from zoo_search.zoo.models import Zoo

__all__ = ["WINNERS", "Entry", "Result", "Role", "run"]

WINNERS = "winners.json"
_FORMAT = 1
_TRAINING = 4
"""Version of how a network is started and trained: a task of another version is trained anew."""


def run(
    entries: Sequence[Entry], zoo: Zoo, dataset: VisionDataset, job: JobConfig, store: RunStore
) -> list[Result]:
    """Fine-tune every entry and the job's variants; write ``winners.json`` and ``winners/<i>/``.

    The test images are looked at only when a protocol has ended: they choose nothing. A run that
    was killed goes on with the networks that were not finished, and with the one in work from
    its last checkpoint; what an earlier run of the same directory has fine-tuned in the same way is
    taken over.

    Args:
        entries: What to fine-tune; the same network under two roles is trained once.
        zoo: The zoo.
        dataset: The target.
        job: The run: fine-tuning, init hooks, seed.
        store: The run directory; workers on other machines have to reach it too.

    Raises:
        UserError: If a training diverges, the workers keep failing, or a variant cannot be made.
    """
    _check_variants(job, [entry.name for entry in entries])
    tuning = _Tuning(dataset, job, store)
    made = networks(entries, zoo, dataset, job)
    named = {network.entry.name: network for network in made}
    planned = [
        plan_variant(name, change, named[change.of], len(dataset.classes), job)
        for name, change in job.finetune.variants.items()
    ]
    for plan in planned:
        rehearse(plan, named[str(plan.of)], job.seed)
    tasks = tuning.train(made)
    if planned:
        changed = []
        for plan in planned:
            winner = named[str(plan.of)]
            task = tasks[winner.entry.recipe.key].key
            changed.append(fill_variant(plan, winner, task, job.seed))
        tasks |= tuning.train(changed)
        made += changed
    results = [
        tuning.export(network, tasks[network.entry.recipe.key], f"winners/{number}")
        for number, network in enumerate(made)
    ]
    store.write_json(WINNERS, _summary(results, dataset, job))
    for surplus in set(store.list("winners")) - {str(n) for n in range(len(results))}:
        store.remove(f"winners/{surplus}")
    return results


def _check_variants(job: JobConfig, names: Sequence[str]) -> None:
    for name, change in job.finetune.variants.items():
        if change.of not in names:
            raise UserError(
                f"finetune.variants.{name}.of: no network '{change.of}' is fine-tuned."
                f"{nearest(change.of, names)} Allowed: {', '.join(names)}."
            )


def _summary(results: Sequence[Result], dataset: VisionDataset, job: JobConfig) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "train_images": len(dataset.select("train", seed=job.seed)),
        "test_images": len(dataset.select("test", seed=job.seed)),
        "results": [result.to_dict() for result in results],
    }


class _Tuning:
    """Trains networks of one run and exports them."""

    def __init__(self, dataset: VisionDataset, job: JobConfig, store: RunStore) -> None:
        self.dataset = dataset
        self.job = job
        self.store = store
        self._images: dict[tuple[str, Any], Any] = {}
        self._earlier = _earlier(store)

    def train(self, made: Sequence[Network]) -> dict[str, Task]:
        """Give the networks their fine-tuned weights; return their tasks by recipe."""
        tasks = {network.entry.recipe.key: self._task(network) for network in made}
        for task in tasks.values():
            if task.key in self._earlier and not self.store.exists(folder_of(task.key)):
                keep_trained(self.store, task.key, _read(self.store, self._earlier[task.key]))
        train_all([task for task in tasks.values() if task.key not in self._earlier], self.store)
        for network in made:
            trained = self._trained(tasks[network.entry.recipe.key])
            network.net.load_state_dict(dict(trained.state))
        return tasks

    def _trained(self, task: Task) -> Trained:
        trained = read_trained(self.store, task.key)
        assert trained is not None
        return trained

    def _put(self, split: Literal["train", "test"], how: tuple[Any, ...]) -> Any:
        """Put the images of one preprocessing into Ray's object store, once."""
        import ray

        if (split, how) not in self._images:
            loaded = self.dataset.select(split, seed=self.job.seed).load(*how)
            self._images[split, how] = ray.put((loaded.images, loaded.labels))
        return self._images[split, how]

    def _task(self, network: Network) -> Task:
        """Return what a worker needs."""
        import ray

        wanted = network.entry.recipe
        recipe, protocols = _training(network, self.job)
        transform = network.models[wanted.blocks[0].model].transform
        how = (tuple(transform.size), transform.interpolation, transform.crop_pct)
        made_from = [
            _TRAINING,
            wanted.to_dict(),
            {name: model.identity for name, model in network.models.items()},
            [self.dataset.fingerprint, self.job.seed, list(protocols), vars(recipe)],
            list(network.start),
        ]
        return Task(
            key=fingerprint(made_from)[:16],
            name=network.entry.name,
            net=ray.put(network.net),
            train=self._put("train", how),
            test=self._put("test", how),
            transform=transform,
            recipe=recipe,
            protocols=protocols,
            num_classes=len(self.dataset.classes),
            seed=self.job.seed,
            macs=self._costs(network).cost(wanted).macs,
        )

    def _costs(self, network: Network) -> CostTable:
        return CostTable(network.models, len(self.dataset.classes))

    def export(self, network: Network, task: Task, folder: str) -> Result:
        """Write a trained network as a folder of the run directory."""
        entry = network.entry
        cost = self._costs(network).cost(entry.recipe)
        result = Result(
            name=entry.name,
            role=entry.role,
            recipe=entry.recipe.to_dict(),
            params=cost.params,
            macs=cost.macs,
            scores=dict(entry.scores),
            protocols=self._trained(task).protocols,
            folder=folder,
            task=task.key,
            init=network.reports,
            of=network.of,
        )
        metadata = {
            **result.to_dict(),
            "dataset": self.dataset.name,
            "state_sha256": state_sha256(network.net.state_dict()),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        }
        with self.store.local_folder(folder) as place:
            save_folder(
                network.net,
                place,
                recipe=entry.recipe,
                zoo=network.models,
                classes=self.dataset.classes,
                metadata=metadata,
            )
        return result


def _training(network: Network, job: JobConfig) -> tuple[TrainRecipe, tuple[Protocol, ...]]:
    """Return how a network is trained.

    A plain architecture without weights of its own has no blocks that are worth keeping still while
    a head learns: it goes through the last protocol alone, with the epochs of all.
    """
    config, protocols = job.finetune, job.finetune.protocol
    recipe = train_recipe(
        config.recipe, epochs=config.epochs, batch_size=config.batch_size, lr=config.lr
    )
    if not network.fitted:
        recipe = replace(recipe, step_limit=None)
    bare = all(model.spec.weights is None for model in network.models.values())
    if network.entry.role == "plain" and bare:
        epochs = sum(recipe.epochs(protocol) for protocol in protocols)
        return replace(recipe, epochs_frozen=epochs, epochs_full=epochs), protocols[-1:]
    return recipe, protocols


def _earlier(store: RunStore) -> dict[str, str]:
    """Return the whole and untouched folders of ``winners/`` of an earlier run, by task."""
    found = {}
    for number in store.list("winners"):
        folder = f"winners/{number}"
        if store.exists(folder):
            facts = _facts(store, folder)
            if facts.get("state_sha256") == _digest(store, folder):
                found[facts["task"]] = folder
    return found


def _facts(store: RunStore, folder: str) -> dict[str, Any]:
    try:
        return dict(store.read_json(f"{folder}/config.json")["metadata"])
    except (OSError, ValueError, KeyError):
        return {}


def _digest(store: RunStore, folder: str) -> str | None:
    """Return the hash of the weights in a folder; None if they cannot be read."""
    try:
        return state_sha256(_read(store, folder).state)
    except (OSError, SafetensorError):
        return None


def _read(store: RunStore, folder: str) -> Trained:
    facts, weights = _facts(store, folder), store.read_bytes(f"{folder}/model.safetensors")
    return Trained(facts.get("protocols", {}), load(weights))
