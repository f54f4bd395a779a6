"""Decoding in this process; images that cannot be decoded are named, counted and left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset


def spoil(pets: Path, names: list[str]) -> None:
    for name in names:
        (pets / name).write_bytes(b"not an image")


def test_bad_files_are_named_and_skipped(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoil(pets, ["cat/1.png", "dog/7.png"])
    config = DatasetConfig(name="folder", path=str(pets), per_class=4, max_bad=0.2)
    dataset = open_dataset(config)
    bad = 0
    for split in ("train", "test"):
        subset = dataset.select(split)
        images = subset.load((8, 8))
        skipped = subset.skipped.reasons()
        bad += len(skipped)
        assert images.ids == [name for name in subset.ids if name not in skipped]
        assert all("known format" in reason for reason in skipped.values())
        assert all(name in caplog.text for name in skipped)
        kept = [
            int(label)
            for name, label in zip(subset.ids, subset.labels, strict=True)
            if name not in skipped
        ]
        assert images.labels.tolist() == kept
    assert bad == 2


def test_too_many_bad_files(pets: Path) -> None:
    spoil(pets, [f"dog/{i}.png" for i in range(9)])
    dataset = open_dataset(DatasetConfig(name="folder", path=str(pets), per_class=1))
    subset = dataset.select("test")
    with pytest.raises(UserError, match=r"of 32 images could not be decoded") as caught:
        subset.load((8, 8))
    assert str(caught.value).count("known format") == 5
    assert "more" in str(caught.value)
    assert "max_bad" in str(caught.value)


def test_a_file_that_vanished_is_a_bad_file(pets: Path) -> None:
    dataset = open_dataset(DatasetConfig(name="folder", path=str(pets), max_bad=0.5))
    subset = dataset.select("train")
    (pets / subset.ids[3]).unlink()
    assert subset.ids[3] not in subset.load((8, 8)).ids
    assert list(subset.skipped.reasons()) == [subset.ids[3]]
    assert "FileNotFoundError" in subset.skipped.reasons()[subset.ids[3]]
