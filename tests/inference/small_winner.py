"""A network on digits: random convolutions under a head that was fitted to the training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

import zoo_search as zs
from zoo_search.config import load_job
from zoo_search.data import open_dataset
from zoo_search.data.base import Subset
from zoo_search.export.folder import save_folder
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.recipe import Recipe
from zoo_search.zoo import Zoo, load_zoo

SIZE = 32
JOB = {
    "name": "x",
    "input_size": SIZE,
    "zoo": {"net": {"arch": "resnet10t", "weights": None}},
    "dataset": {"name": "digits", "per_class": 20, "seed": 3},
    "init": "random",
}


@dataclass(frozen=True)
class Made:
    """A winner's folder, the network in it, its zoo, and the test images that it never saw."""

    folder: Path
    net: ReassembledNet
    zoo: Zoo
    test: Subset

    def again(self, folder: Path, value_range: tuple[float, float] | None = None) -> Path:
        """Write the network to another folder; with the range of its data set, if it had one."""
        save_folder(
            self.net, folder, recipe=self.net.recipe, zoo=self.zoo, classes=self.test.classes,
            metadata={"name": "reassembly 1", "dataset": "digits"}, value_range=value_range,
        )  # fmt: skip
        return folder

    def probabilities(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float64]:
        """What it says of pictures, one by one."""
        said = []
        with torch.no_grad():
            for picture in pictures:
                logits = self.net(self.net.transform.image(picture)[None])
                said.append(logits.double().softmax(1)[0].numpy())
        return np.stack(said)

    def pictures(self, count: int) -> list[Image.Image]:
        """The first test images."""
        reader = self.test.reader
        return [Image.fromarray(raw) for _, raw in reader.read(self.test.ids[:count])]  # type: ignore[arg-type]


def make_winner(folder: Path) -> Made:
    zoo = load_zoo(JOB)
    dataset = open_dataset(load_job(JOB).dataset)
    images = dataset.select("train").load((SIZE, SIZE))
    recipe = Recipe.whole("net", len(zoo["net"].graph))
    net = zs.assemble(recipe, zoo, images=images.images, labels=images.labels, num_classes=10)
    made = Made(folder / "w", net, zoo, dataset.select("test"))
    made.again(made.folder)
    return made
