"""Folders of small images, of any names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from zoo_search.run.draft.hardware import Hardware

LAPTOP = Hardware(2, 8 * 10**9, 4 * 10**9, ())
SERVER = Hardware(16, 128 * 10**9, 100 * 10**9, (("Some GPU", 80 * 10**9),))
MODEL = "lcnet_050@weights.safetensors"
"""A model of which nothing is fetched."""


def fill(root: bytes, counts: Mapping[bytes, int], side: int = 12, mode: str = "RGB") -> str:
    """Put so many images into each folder; return the path of all."""
    rng = np.random.default_rng(len(counts))
    for name, count in counts.items():
        folder = os.path.join(root, name)  # noqa: PTH118  # bytes that are no UTF-8
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        for i in range(count):
            pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
            path = Path(os.fsdecode(os.path.join(folder, b"%d.png" % i)))  # noqa: PTH118
            image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
            if mode == "I;16":
                image = Image.fromarray(np.asarray(image).astype(np.uint16))
            image.save(path)
    return os.fsdecode(root)
