"""Folders of images by class, with and without held-out images of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_images import by_split, write_images

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset


def test_folder_ids_do_not_depend_on_where_it_lies(pets: Path, tmp_path: Path) -> None:
    (pets / "notes.txt").write_text("no class")
    (pets / "cat" / "notes.txt").write_text("no image")
    dataset = open_dataset(DatasetConfig(name="folder", path=str(pets)))
    assert dataset.classes == ("cat", "dog", "emu")
    assert "emu/big/0.png" in dataset.index["id"].to_pylist()
    assert np.bincount(dataset.index["label"].to_numpy()).tolist() == [10, 20, 5]
    shutil.copytree(pets, tmp_path / "elsewhere")
    moved = open_dataset(DatasetConfig(name="folder", path=f"file://{tmp_path}/elsewhere/"))
    assert moved.fingerprint == dataset.fingerprint
    assert moved.index.equals(dataset.index)
    Image.new("RGB", (12, 12), (9, 9, 9)).save(tmp_path / "elsewhere" / "cat" / "0.png")
    changed = open_dataset(DatasetConfig(name="folder", path=str(tmp_path / "elsewhere")))
    assert changed.fingerprint != dataset.fingerprint


@pytest.mark.parametrize("held_out", ["val", "test", "validation"])
def test_folder_keeps_its_own_split(tmp_path: Path, held_out: str) -> None:
    write_images(tmp_path, {"train/a": 8, "train/b": 6, f"{held_out}/a": 3, f"{held_out}/b": 2})
    for option, training in (("per_class", 8), ("limit", 4), ("seed", 14)):
        dataset = open_dataset(DatasetConfig(name="folder", path=str(tmp_path), **{option: 4}))
        split = by_split(dataset)
        assert {name.split("/")[0] for name in split["test"]} == {held_out}
        assert {name.split("/")[0] for name in split["train"]} == {"train"}
        assert (len(split["train"]), len(split["test"])) == (training, 5)


def test_validation_beside_a_test_is_a_split_of_its_own(tmp_path: Path) -> None:
    three = {"train/a": 8, "train/b": 6, "val/a": 3, "val/b": 2, "test/a": 4, "test/b": 1}
    write_images(tmp_path, three)
    for option, training in (("per_class", 8), ("limit", 4), ("seed", 14)):
        dataset = open_dataset(DatasetConfig(name="folder", path=str(tmp_path), **{option: 4}))
        split = by_split(dataset)
        assert {k: len(names) for k, names in split.items()} == {
            "train": training,
            "validation": 5,
            "test": 5,
        }
        assert {name.split("/")[0] for name in split["validation"]} == {"val"}
        assert {name.split("/")[0] for name in split["test"]} == {"test"}
        assert sorted(dataset.select("validation").ids) == sorted(split["validation"])


def test_a_test_folder_without_classes_is_none(tmp_path: Path) -> None:
    """ImageNet's test images lie side by side, without labels: its validation is the test."""
    write_images(tmp_path, {"train/a": 8, "train/b": 6, "val/a": 3, "val/b": 2, "test": 4})
    dataset = open_dataset(DatasetConfig(name="folder", path=str(tmp_path)))
    assert not dataset.has("validation")
    assert {name.split("/")[0] for name in dataset.select("test").ids} == {"val"}


def test_train_folder_alone_is_split(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/a": 10, "train/b": 10, "val/.hidden": 1})
    split = by_split(open_dataset(DatasetConfig(name="folder", path=str(tmp_path))))
    assert (len(split["train"]), len(split["test"])) == (16, 4)


def test_empty_classes_are_named(pets: Path, tmp_path: Path) -> None:
    (pets / "fox").mkdir()
    with pytest.raises(UserError, match=r"no images: 'fox' \(0\)"):
        open_dataset(DatasetConfig(name="folder", path=str(pets)))
    write_images(tmp_path / "own", {"train/a": 2, "train/b": 2, "val/a": 1})
    (tmp_path / "own/val/b").mkdir()
    with pytest.raises(UserError, match=r"val/b .* no images"):
        open_dataset(DatasetConfig(name="folder", path=str(tmp_path / "own")))
    write_images(tmp_path / "own", {"test/a": 1})
    with pytest.raises(UserError, match=r"val/b .* no images"):
        open_dataset(DatasetConfig(name="folder", path=str(tmp_path / "own")))
    (tmp_path / "own/val/b").rename(tmp_path / "own/val/c")
    with pytest.raises(UserError, match=r"train/ lacks: c"):
        open_dataset(DatasetConfig(name="folder", path=str(tmp_path / "own")))


def test_folder_without_classes(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match="no class folders"):
        open_dataset(DatasetConfig(name="folder", path=str(tmp_path)))
