"""Networks that a run does not train itself, trained as a run trains its own.

They learn from the same images, are judged on the same images held out, follow the same schedule
with the same seeds, and end with weights that are chosen in the same way. What they say of the test
images is kept in the run directory, training by training.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zoo_search import cluster
from zoo_search.core.identity import fingerprint
from zoo_search.data import Subset
from zoo_search.data.preprocess import Preprocess
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.images.places import folds_of
from zoo_search.finetune.networks import build_networks
from zoo_search.finetune.tasks import schedule_of
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.recipe import BlockRef, Recipe
from zoo_search.networks.renewal import renew
from zoo_search.run.run import Run
from zoo_search.training.accuracy import Predictions, predict
from zoo_search.training.augment import Augmentation
from zoo_search.training.choice import Choice
from zoo_search.training.images import InMemory
from zoo_search.training.machine import HERE
from zoo_search.training.schedules import Protocol, Schedule
from zoo_search.training.train import train
from zoo_search.zoo.load import build_untrained
from zoo_search.zoo.models import ZooModel

Probabilities = npt.NDArray[np.float32]
"""Of each class for each test image, ``[trainings, images, classes]``."""
_AT_ONCE = 32


class Trainer:
    """Trains networks on the images of a finished run."""

    def __init__(self, run: Run) -> None:
        self.run, self.job, self.zoo = run, run.job, run.zoo
        self.classes = len(run.dataset.classes)
        self.test = run.dataset.select("test", seed=self.job.seed)
        config = self.job.finetune
        self.folds = folds_of(run.dataset, self.job.seed, config.validation, config.seeds)

    def whole(self, name: str) -> Entry:
        """Return a model of the zoo as what is to be trained."""
        return Entry(name, "single", Recipe.whole(name, len(self.zoo[name].graph)))

    def without_weights(self, recipe: Recipe, number: int) -> Entry:
        """Return a recipe's architecture with random weights, others for each training."""
        job = self.job.model_copy(update={"seed": self.job.seed + number})
        models: dict[str, ZooModel] = {}
        for name in recipe.models:
            known = self.zoo[name]
            spec = known.spec.model_copy(update={"weights": None})
            own = f"{name} without weights"
            module = build_untrained(spec, own, job, "zoo").eval()
            models[own] = replace(
                known,
                name=own,
                spec=spec,
                module=module,
                weights_hash=f"random {number}",
                source="seeded random values",
                file=None,
            )
        blocks = tuple(
            BlockRef(f"{block.model} without weights", block.start, block.stop)
            for block in recipe.blocks
        )
        return Entry("random weights", "plain", Recipe(blocks, recipe.head), models=models, init=())

    def probabilities(self, entries: Sequence[Entry]) -> Probabilities:
        """Return what a network says of the test images after each of its trainings.

        ``entries`` holds it for each training. What is missing in the run directory is trained side
        by side on Ray, one CPU each.
        """
        import ray

        store = self.run.store
        names = [self._file(entry, number) for number, entry in enumerate(entries)]
        missing = [number for number, name in enumerate(names) if not store.exists(name)]
        fit_on_ray = ray.remote(num_cpus=1, max_retries=2)(fit)
        refs = [fit_on_ray.remote(self._training(entries[number], number)) for number in missing]

        def keep(place: int, found: npt.NDArray[np.float32]) -> None:
            file = io.BytesIO()
            np.save(file, found)
            store.write_bytes(names[missing[place]], file.getvalue())

        cluster.gather(refs, what="trainings beside the run", on_result=keep)
        return np.stack([np.load(io.BytesIO(store.read_bytes(name))) for name in names])

    def right(self, probabilities: Probabilities) -> npt.NDArray[np.bool_]:
        """Return which test images get their label, ``[trainings, images]``."""
        said: npt.NDArray[np.int64] = probabilities.argmax(axis=2)
        return said == self.test.labels

    def _file(self, entry: Entry, number: int) -> str:
        """Return where the answers of one training are kept."""
        models = {**self.zoo, **entry.models}
        made_from = [
            entry.role,
            entry.recipe.to_dict(),
            {name: models[name].identity for name in entry.recipe.models},
            [self.job.finetune.identity(), self.job.search.fit_images, self.job.seed, number],
            self.run.dataset.fingerprint,
        ]
        return f"extra/{fingerprint(made_from)[:16]}.npy"

    def _training(self, entry: Entry, number: int) -> Training:
        fold, seed = self.folds[number], self.job.seed + number
        network = build_networks([entry], self.zoo, fold.train, self.job, seed)[0]
        schedule, protocols = schedule_of(network, self.job, self.job.finetune.protocol)
        transform = network.models[entry.recipe.blocks[0].model].transform
        held = None if fold.validation is None else _in_memory(fold.validation, transform)
        learned, test = _in_memory(fold.train, transform), _in_memory(self.test, transform)
        return Training(
            network.net, learned, held, test, transform, schedule, protocols, self.classes, seed
        )


@dataclass(frozen=True, eq=False)
class Training:
    """One network before its training, the images, and how it is trained."""

    net: ReassembledNet
    learned: InMemory
    held: InMemory | None
    test: InMemory
    transform: Preprocess
    schedule: Schedule
    protocols: tuple[Protocol, ...]
    classes: int
    seed: int


def fit(task: Training) -> npt.NDArray[np.float32]:
    """Train a network as a run does; return its answers, ``[images, classes]``."""
    torch.set_num_threads(1)
    net = task.net.to(memory_format=torch.channels_last)
    choice = Choice()

    def judged(protocol: Protocol, net: nn.Module, epoch: int) -> Predictions:
        assert task.held is not None
        found = predict(net, task.held, task.transform)
        choice.offer(net, found, protocol, epoch)
        return found

    if task.held is not None:
        judged(task.protocols[0], net, 0)
    for protocol in task.protocols:
        choice.put_into(net)
        if protocol == "full" and task.schedule.renew:
            augment = Augmentation(task.classes, task.transform, task.schedule, protocol)
            renew(net, task.learned, augment, HERE, task.seed)
        train(
            net,
            task.learned,
            num_classes=task.classes,
            transform=task.transform,
            schedule=task.schedule,
            protocol=protocol,
            seed=task.seed,
            judge=None if task.held is None else partial(judged, protocol),
        )
    choice.put_into(net)
    return _softmax(net, task.test, task.transform)


def _in_memory(subset: Subset, transform: Preprocess) -> InMemory:
    found = subset.load(transform.view)
    return InMemory(found.images, found.labels)


@torch.inference_mode()
def _softmax(net: nn.Module, images: InMemory, transform: Preprocess) -> npt.NDArray[np.float32]:
    parts = []
    for some in images.images.split(_AT_ONCE):
        x = transform.normalize(some).to(memory_format=torch.channels_last)
        parts.append(net(x).float().softmax(dim=1))
    return torch.cat(parts).numpy()
