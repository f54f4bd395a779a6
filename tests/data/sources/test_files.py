"""Files at paths and URIs: what they are called, what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from small_images import write_images

from zoo_search.config import DatasetConfig
from zoo_search.data import open_dataset
from zoo_search.data.sources import files


def test_fingerprint_of_many_bytes_reads_sizes_and_edges(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_WHOLE", 100)
    monkeypatch.setattr(files, "_EDGE", 20)
    config = DatasetConfig(name="folder", path=str(pets))
    before = open_dataset(config).fingerprint
    assert open_dataset(config).fingerprint == before
    path = pets / "dog/3.png"
    data = path.read_bytes()
    for changed in (data + b"x", b"\0" + data[1:], data[:-1] + b"\0"):
        path.write_bytes(changed)
        assert open_dataset(config).fingerprint != before
    path.write_bytes(data)
    assert open_dataset(config).fingerprint == before


@pytest.fixture
def in_memory() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    yield "memory://pets"
    fs.rm("/pets", recursive=True)


def test_uri(pets: Path, in_memory: str) -> None:
    memory = fsspec.filesystem("memory")
    for path in pets.rglob("*.png"):
        memory.pipe_file(f"/pets/{path.relative_to(pets)}", path.read_bytes())
    here = open_dataset(DatasetConfig(name="folder", path=str(pets)))
    there = open_dataset(DatasetConfig(name="folder", path=in_memory))
    assert there.fingerprint == here.fingerprint
    a, b = here.select("train").load((16, 16)), there.select("train").load((16, 16))
    assert a.ids == b.ids
    assert torch.equal(a.images, b.images)


def test_names_with_brackets_and_spaces(tmp_path: Path) -> None:
    write_images(tmp_path, {"a class [1]": 3, "b*": 3})
    images = open_dataset(DatasetConfig(name="folder", path=str(tmp_path))).select().load((4, 4))
    assert len(images) == 4
