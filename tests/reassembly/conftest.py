"""A small zoo of a CNN, a ViT with a class token, an MLP net and a windowed transformer."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from zoo_search.linegraph import LineGraph, trace
from zoo_search.linegraph.graph import Cut
from zoo_search.reassembly import BlockRef, ReassembledNet, Recipe
from zoo_search.zoo.preprocess import Preprocess

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


@dataclass(frozen=True, eq=False)
class Model:
    """A zoo model as this package sees it."""

    module: nn.Module
    graph: LineGraph
    transform: Preprocess = field(default_factory=lambda: Preprocess((64, 64)))


@pytest.fixture(scope="session")
def zoo() -> dict[str, Model]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    models = {}
    for name, (arch, kwargs) in ARCHITECTURES.items():
        module = timm.create_model(arch, num_classes=7, **kwargs).eval()
        models[name] = Model(module, trace(module, (3, 64, 64), name))
    return models


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Smooth random pictures, uint8 ``[64, 3, 64, 64]``."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(64, 3, 8, 8, generator=generator)
    fine = nn.functional.interpolate(coarse, size=64, mode="bilinear")
    return (fine * 255).to(torch.uint8)


@dataclass(frozen=True)
class Target:
    """As much of a data subset as a search uses."""

    ids: list[str]
    labels: torch.Tensor
    pixels: torch.Tensor
    fingerprint: str = "f"

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, size: tuple[int, int], interpolation: str, crop_pct: float) -> SimpleNamespace:
        assert (size, interpolation, crop_pct) == ((64, 64), "bicubic", 1.0)
        return SimpleNamespace(images=self.pixels[: len(self)], labels=self.labels)


@pytest.fixture
def target(images: torch.Tensor) -> Target:
    """The pictures under four labels in turn."""
    return Target([str(i) for i in range(len(images))], torch.arange(len(images)) % 4, images)


def quarters(zoo: dict[str, Model], sets: dict[str, list[int]] | None = None) -> SimpleNamespace:
    """A partition of every model into four blocks, as a stand-in with the same fields."""
    blocks = []
    for name, model in zoo.items():
        nodes = len(model.graph)
        cuts = [0, *(round(nodes * i / 4) for i in (1, 2, 3)), nodes]
        for stage in range(4):
            number = (sets or {}).get(name, [0, 1, 2, 3])[stage]
            blocks.append(
                SimpleNamespace(
                    model=name, start=cuts[stage], stop=cuts[stage + 1], stage=stage, set=number
                )
            )
    return SimpleNamespace(k=4, blocks=blocks)


@pytest.fixture(scope="session")
def partition(zoo: dict[str, Model]) -> SimpleNamespace:
    """Two blocks of ``cnn`` share a set, those of ``mlp`` lie in another order of sets."""
    return quarters(zoo, {"cnn": [0, 0, 2, 3], "mlp": [1, 0, 2, 3]})


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


@pytest.fixture(scope="session")
def free_partition(zoo: dict[str, Model]) -> SimpleNamespace:
    """Stage s is set s: any model can stand in at any stage."""
    return quarters(zoo)
