"""Recipes over a small zoo, and their networks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zoo_search as zs
from zoo_search.export.folder import save_folder
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.recipe import Recipe
from zoo_search.training.snapshot import Epoch
from zoo_search.zoo import Zoo

SIZE = 32
CLASSES = ("zero", "one", "two")
METADATA = {
    "name": "a test",
    "role": "reassembly",
    "params": 1_000_000,
    "macs": 2_000_000,
    "dataset": "digits",
    "scores": {"naswot": 1.5},
    "trainings": [
        {
            "seed": 0,
            "fold": 0,
            "protocols": {
                "frozen": {
                    "test_accuracy": 0.5,
                    "trainable_params": 10,
                    "seconds": 1.0,
                    "curve": [asdict(Epoch(1, 0.5, 0.25, 1.0, 1e-3, 40.0, 2**20, 0.375))],
                }
            },
        }
    ],
    "exported": 0,
    "tuned": {"lr_full": 0.004},
    "from a later version": True,
    "command": "zoo-search run job.yaml",
}
MIXED = {
    "blocks": [
        {"model": "resnet", "start": 0, "stop": 3},
        {"model": "vit", "start": 1, "stop": 3},
        {"model": "mobilenet", "start": 8, "stop": 11},
    ],
    "head": "target",
}
TAPPED = {**MIXED, "taps": "blocks"}
SOURCE = {
    "blocks": [
        {"model": "vit", "start": 0, "stop": 2},
        {"model": "vit", "start": 2, "stop": 3},
    ],
    "head": "source",
}


def images(count: int) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def make(zoo: Zoo, recipe: Any) -> ReassembledNet:
    return zs.assemble(recipe, zoo, init="random", num_classes=len(CLASSES), seed=3)


def save(zoo: Zoo, recipe: Any, folder: Path) -> ReassembledNet:
    net = make(zoo, recipe)
    parsed = Recipe.from_any(recipe)
    save_folder(net, folder, recipe=parsed, zoo=zoo, classes=CLASSES, metadata=METADATA)
    return net
