"""A similarity step as a process of its own, for the tests to kill."""

from __future__ import annotations

import sys
from typing import Any

import timm
import torch

from zoo_search import cluster
from zoo_search.cluster.hosts import Hosts
from zoo_search.config import DatasetConfig, SimilarityConfig, ZooEntry
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset
from zoo_search.data.preprocess import Preprocess
from zoo_search.similarities.step import Made, compute
from zoo_search.zoo.models import ZooModel

BATCHES = 40


def model(name: str, arch: str, seed: int, **kwargs: Any) -> ZooModel:
    """Return a model of the zoo with seeded random weights."""
    torch.manual_seed(seed)
    module = timm.create_model(arch, **kwargs).eval()
    entry, transform = ZooEntry(arch=arch), Preprocess((32, 32))
    return ZooModel(name, entry, module, transform, arch, None, f"{arch}-{seed}", "")


def compute_in(store: RunStore, hosts: Hosts | None = None) -> Made:
    """Compare two models on some batches, with the Ray that is connected."""
    small = {"img_size": 32, "patch_size": 8, "depth": 2}
    zoo = {
        "mobile": model("mobile", "mobilenetv3_small_050", 0),
        "vit": model("vit", "vit_tiny_patch16_224", 1, **small),
    }
    subset = open_dataset(DatasetConfig(name="digits", per_class=40)).select(limit=8 * BATCHES)
    config = SimilarityConfig(batch_size=8, window_mb=1)
    return compute(zoo, subset, config, 0, store, hosts)


if __name__ == "__main__":
    cluster.connect(sys.argv[2])
    compute_in(RunStore(sys.argv[1]))
