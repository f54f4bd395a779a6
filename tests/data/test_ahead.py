"""Images are read in one seeded order, from any place on, no further ahead than they are taken."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from small_packs import write_parquet

from zoo_search.data import ahead, open_dataset
from zoo_search.data.ahead import read_shuffled, shuffled
from zoo_search.data.sources import ArrayReader, Reader, chunks


def test_row_groups_are_read_once_and_mixed(tmp_path: Path) -> None:
    """Of Parquet a row group is the least that can be read."""
    config = write_parquet(tmp_path / "x.parquet", 3000, 100)
    dataset = open_dataset(config)
    ids = dataset.index["id"].to_pylist()
    windows = shuffled(dataset.reader, ids, 0)
    groups = [group for window in windows for group in window]
    assert sorted(name for group in groups for name in group) == sorted(ids)
    assert [len(dataset.reader._by_row_group(group)) for group in groups] == [  # type: ignore[attr-defined]
        len(group) // 100 for group in groups
    ]
    found = [
        int(image.id[-8:]) * 4 // 3000 for image in read_shuffled(dataset.reader, ids, 0, None)
    ]
    changes = sum(a != b for a, b in itertools.pairwise(found))
    assert len(found) == 3000
    assert changes > 1000  # 3 if they were not mixed, 2250 if wholly


@pytest.mark.parametrize("skip", [0, 1, 31, 32, 700, 1024, 1299, 1300])
def test_going_on_is_the_rest_of_the_same_order(skip: int) -> None:
    ids = [f"x/{i}" for i in range(1300)]

    class Groups(ArrayReader):
        def groups(self, ids):
            return chunks(sorted(ids))

    images = np.arange(1300, dtype=np.uint16)[:, None, None].repeat(2, 1).view(np.uint8)
    for reader in (ArrayReader(images), Groups(images)):
        whole = [image.id for image in read_shuffled(reader, ids, 3, None)]
        assert sorted(whole) == sorted(ids)
        assert [image.id for image in read_shuffled(reader, ids, 3, None, skip)] == whole[skip:]


def test_reading_waits_for_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Counting(Reader):
        def read(self, ids):
            for name in ids:
                read.append(name)
                yield name, np.zeros((4, 4), dtype=np.uint8)

    images = read_shuffled(Counting(), [f"{i}" for i in range(5000)], 0, None)
    next(images)
    time.sleep(0.3)
    assert len(read) <= (2 * ahead._THREADS + 1) * ahead._TOGETHER
    monkeypatch.setattr(ahead, "_HELD", 1)  # byte, and more are there
    before = len(read)
    for _ in range(ahead._TOGETHER):
        next(images)
    time.sleep(0.1)
    assert len(read) == before
    images.close()
