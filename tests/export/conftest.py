"""A small zoo of three families, without files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from zoo_search.zoo import Zoo, load_zoo

sys.path.insert(0, str(Path(__file__).parent))

from networks_to_export import SIZE


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    """Three families, with random weights and statistics."""
    vit = {"img_size": SIZE, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
    entries = {
        "resnet": {"arch": "resnet10t", "license": "CC-BY-4.0"},
        "vit": {"arch": "vit_tiny_patch16_224", "kwargs": {**vit, "num_classes": 3}},
        "mobilenet": {"arch": "mobilenetv3_small_050"},
    }
    job = {
        "name": "x",
        "input_size": SIZE,
        "zoo": {name: {**entry, "weights": None} for name, entry in entries.items()},
        "dataset": "digits",
        "init": "random",
    }
    loaded = load_zoo(job)
    generator = torch.Generator().manual_seed(5)
    for model in loaded.values():
        for name, buffer in model.module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1, generator=generator)
    return loaded
