"""A small zoo of a CNN, a ViT with a class token, an MLP net and a windowed transformer.

``conftest.py`` of a folder takes the fixtures that its tests need from here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from zoo_search.config import ZooEntry
from zoo_search.data import View
from zoo_search.linegraph import LineGraph
from zoo_search.linegraph.graph import Cut
from zoo_search.networks import BlockRef, ReassembledNet, Recipe
from zoo_search.partitions.result import Partition
from zoo_search.testing.small import even_partition, smooth_images
from zoo_search.zoo import Preprocess, ZooModel

ARCHITECTURES = {
    "cnn": ("mobilenetv3_small_050", {}),
    "vit": (
        "vit_tiny_patch16_224",
        {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 4, "num_heads": 2},
    ),
    "mlp": ("resmlp_12_224", {"img_size": 64}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 2, 1),
         "num_heads": (1, 2, 2, 4)},
    ),
}  # fmt: skip


def zoo_model(name: str, module: nn.Module, arch: str = "module:tests:none") -> ZooModel:
    """Return a model of the zoo for images of 64 pixels; its name stands for its weights."""
    return ZooModel(
        name=name, spec=ZooEntry(arch=arch, weights=None), module=module.eval(),
        transform=Preprocess((64, 64)), family="test", license=None, weights_hash=name, source="",
    )  # fmt: skip


@functools.cache
def _zoo() -> dict[str, ZooModel]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return {
        name: zoo_model(name, timm.create_model(arch, num_classes=7, **kwargs), arch)
        for name, (arch, kwargs) in ARCHITECTURES.items()
    }


@pytest.fixture(scope="session")
def zoo() -> dict[str, ZooModel]:
    return _zoo()


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Smooth random pictures, uint8 ``[64, 3, 64, 64]``."""
    return smooth_images(64, 64)


@dataclass(frozen=True)
class Target:
    """As much of a data subset as a search uses."""

    ids: list[str]
    labels: torch.Tensor
    pixels: torch.Tensor
    fingerprint: str = "f"
    classes: tuple[str, ...] = ("a", "b", "c", "d")

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int | None) -> Target:
        return replace(self, ids=self.ids[:count], labels=self.labels[:count])

    def load(self, view: View) -> SimpleNamespace:
        assert view == View((64, 64), "bicubic", 1.0)
        return SimpleNamespace(images=self.pixels[: len(self)], labels=self.labels)


@pytest.fixture
def target(images: torch.Tensor) -> Target:
    """The pictures under four labels in turn."""
    return Target([str(i) for i in range(len(images))], torch.arange(len(images)) % 4, images)


def graphs_of(zoo: Mapping[str, ZooModel]) -> dict[str, LineGraph]:
    return {name: model.graph for name, model in zoo.items()}


@pytest.fixture(scope="session")
def partition(zoo: dict[str, ZooModel]) -> Partition:
    """Two blocks of ``cnn`` share a set, those of ``mlp`` lie in another order of sets."""
    return even_partition(graphs_of(zoo), 4, {"cnn": [0, 0, 2, 3], "mlp": [1, 0, 2, 3]})


@pytest.fixture(scope="session")
def free_partition(zoo: dict[str, ZooModel]) -> Partition:
    """Stage s is set s: any model can stand in at any stage."""
    return even_partition(graphs_of(zoo), 4)


@pytest.fixture
def relu_net() -> ReassembledNet:
    """Two convolutions, each with a ReLU (one in place), and a head for 3 classes, in float64."""
    torch.manual_seed(3)
    blocks = [
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.ReLU()),
    ]
    recipe = Recipe((BlockRef("relu", 0, 1), BlockRef("relu", 1, 2)))
    cut = Cut(2, "last", "nchw", 5, (6, 6))
    net = ReassembledNet(recipe, blocks, [nn.Identity()], nn.Linear(5, 3), cut, (3, 6, 6))
    return net.double().eval()
