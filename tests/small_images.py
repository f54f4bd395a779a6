"""Small pictures on disk, for tests of data sets.

``conftest.py`` of a folder takes the fixtures that its tests need from here.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.data import SPLITS, VisionDataset, open_dataset


def write_images(root: Path, counts: dict[str, int], size: int = 12) -> None:
    """Write ``counts[folder]`` images; each holds one colour of its own."""
    number = itertools.count(1)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            n = next(number)
            Image.new("RGB", (size, size), (n % 256, n // 256, 7)).save(root / folder / f"{i}.png")


def by_split(dataset: VisionDataset) -> dict[str, set[str]]:
    rows = dataset.index.to_pylist()
    return {s: {r["id"] for r in rows if r["split"] == s} for s in SPLITS}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    write_images(tmp_path / "pets", {"cat": 10, "dog": 20, "emu/big": 5})
    return tmp_path / "pets"


@pytest.fixture
def digits() -> VisionDataset:
    return open_dataset(DatasetConfig(name="digits", per_class=20))


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 5), (value, 0, 255 - value)).save(buffer, "PNG")
    return buffer.getvalue()
