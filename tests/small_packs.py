"""Small data sets to pack, and what is found in a pack.

``conftest.py`` of a folder takes the fixtures that its tests need from here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_images import write_images

from zoo_search.config import DatasetConfig
from zoo_search.data import SPLITS, Split, VisionDataset

TINY = 0.03  # 10^6 bytes of a shard


def folder(path: Path | str, **options: object) -> DatasetConfig:
    return DatasetConfig(name="folder", path=str(path), **options)


def contents(
    dataset: VisionDataset, size: tuple[int, int] = (12, 12), splits: Sequence[Split] = SPLITS
) -> list[tuple[bytes, int]]:
    found = []
    for split in filter(dataset.has, splits):
        images = dataset.select(split).load(size)
        pixels = [image.numpy().tobytes() for image in images.images]
        found += zip(pixels, images.labels.tolist(), strict=True)
    return sorted(found)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def split_pets(tmp_path: Path) -> Path:
    counts = {"train/cat": 23, "train/dog": 31, "val/cat": 5, "val/dog": 4}
    write_images(tmp_path / "split_pets", counts)
    return tmp_path / "split_pets"


def write_parquet(path: Path, count: int, rows: int) -> DatasetConfig:
    """Write images sorted by class, whose red is their class and whose green is their number."""
    stored = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (12, 12), (i * 4 // count, i % 256, i // 256)).save(buffer, "PNG")
        stored.append(buffer.getvalue())
    labels = [i * 4 // count for i in range(count)]
    pq.write_table(pa.table({"image": stored, "label": labels}), path, row_group_size=rows)
    return DatasetConfig(name="parquet", path=str(path))
