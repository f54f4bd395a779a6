"""Networks that a run does not train itself, trained as a run trains its own.

They learn from the same images, are judged on the same images held out, follow the same schedule
with the same seeds, and end with weights that are chosen in the same way. What they say of the test
images is kept in the run directory, training by training.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zoo_search.core.identity import fingerprint
from zoo_search.data import Subset
from zoo_search.data.preprocess import Preprocess
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.images.places import folds_of
from zoo_search.finetune.networks import build_networks
from zoo_search.finetune.tasks import schedule_of
from zoo_search.networks.recipe import BlockRef, Recipe
from zoo_search.networks.renewal import renew
from zoo_search.run.run import Run
from zoo_search.training.accuracy import Predictions, predict
from zoo_search.training.augment import Augmentation
from zoo_search.training.choice import Choice
from zoo_search.training.images import InMemory
from zoo_search.training.machine import HERE
from zoo_search.training.schedules import Protocol
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

    def whole(self, name: str, role: str = "single") -> Entry:
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

        ``entries`` holds it for each training.
        """
        return np.stack([self._kept(entry, number) for number, entry in enumerate(entries)])

    def every(self, entry: Entry) -> list[Entry]:
        """Return an entry for each training."""
        return [entry] * len(self.folds)

    def right(self, probabilities: Probabilities) -> npt.NDArray[np.bool_]:
        """Return which test images get their label, ``[trainings, images]``."""
        return np.equal(probabilities.argmax(axis=2), self.test.labels)

    def _kept(self, entry: Entry, number: int) -> npt.NDArray[np.float32]:
        """Return the answers of one training, from the run directory if they are there."""
        models = {**self.zoo, **entry.models}
        made_from = [
            entry.role,
            entry.recipe.to_dict(),
            {name: models[name].identity for name in entry.recipe.models},
            [self.job.finetune.identity(), self.job.search.fit_images, self.job.seed, number],
            self.run.dataset.fingerprint,
        ]
        name = f"extra/{fingerprint(made_from)[:16]}.npy"
        if self.run.store.exists(name):
            return np.load(io.BytesIO(self.run.store.read_bytes(name)))
        found, file = self._trained(entry, number), io.BytesIO()
        np.save(file, found)
        self.run.store.write_bytes(name, file.getvalue())
        return found

    def _trained(self, entry: Entry, number: int) -> npt.NDArray[np.float32]:
        fold, seed = self.folds[number], self.job.seed + number
        network = build_networks([entry], self.zoo, fold.train, self.job, seed)[0]
        schedule, protocols = schedule_of(network, self.job, self.job.finetune.protocol)
        transform = network.models[entry.recipe.blocks[0].model].transform
        net = network.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        learned = _in_memory(fold.train, transform)
        held = None if fold.validation is None else _in_memory(fold.validation, transform)
        choice = Choice()

        def judged(protocol: Protocol, net: nn.Module, epoch: int) -> Predictions:
            found = predict(net, held, transform)
            choice.offer(net, found, protocol, epoch)
            return found

        if held is not None:
            judged(protocols[0], net, 0)
        for protocol in protocols:
            choice.put_into(net)
            if protocol == "full" and schedule.renew:
                augment = Augmentation(self.classes, transform, schedule, protocol)
                renew(net, learned, augment, HERE, seed)
            train(
                net,
                learned,
                num_classes=self.classes,
                transform=transform,
                schedule=schedule,
                protocol=protocol,
                seed=seed,
                judge=None if held is None else partial(judged, protocol),
            )
        choice.put_into(net)
        return _softmax(net, _in_memory(self.test, transform), transform)


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
