"""Indexes of torchvision's data sets that name other files than their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torchvision.datasets
from attacks import Command
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.data.sources.libraries import torchvision as opened
from zoo_search.data.sources.listing import Unreadable


def food(root: Path, first: str) -> Path:
    """A data set as torchvision's Food101 has it, whose first image is another one."""
    images, meta = root / "food-101" / "images", root / "food-101" / "meta"
    meta.mkdir(parents=True)
    for name in ("a", "b"):
        (images / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (8, 8), (i, i, i)).save(images / name / f"{i}.jpg")
    for split in ("train", "test"):
        index = {name: [f"{name}/{i}" for i in range(12)] for name in ("a", "b")}
        index["a"][0] = first
        (meta / f"{split}.json").write_text(json.dumps(index))
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """An image that is nobody's business."""
    path = tmp_path / "private" / "x.jpg"
    path.parent.mkdir()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path)
    return path


@pytest.mark.parametrize("first", ["../../../private/x", "a/link", "a/folder/x"])
def test_an_index_names_no_image_elsewhere(
    first: str, outside: Path, tmp_path: Path, command: Command
) -> None:
    root = food(tmp_path / "set", first)
    inside = root / "food-101" / "images" / "a"
    (inside / "link.jpg").symlink_to(outside)
    (inside / "folder").symlink_to(outside.parent, target_is_directory=True)
    # As torchvision alone reads it:
    assert torchvision.datasets.Food101(root)[0][0].getpixel((0, 0))[0] > 150  # type: ignore[index]
    listing = opened(DatasetConfig(name="torchvision:Food101", path=str(root)))
    first_read, *others = (image for _, image in listing.reader.read(listing.ids))
    assert isinstance(first_read, Unreadable)
    assert "not in the data set's folder" in str(first_read)
    assert sum(isinstance(image, Unreadable) for image in others) == 1  # the first of the test
    pack = ("data", "pack", root, tmp_path / "out", "--name", "torchvision:Food101")
    assert command(*pack).refused("not in the data set's folder")


def test_a_set_behind_a_link_is_read(tmp_path: Path) -> None:
    food(tmp_path / "set", "a/0")
    (tmp_path / "link").symlink_to(tmp_path / "set", target_is_directory=True)
    listing = opened(DatasetConfig(name="torchvision:Food101", path=str(tmp_path / "link")))
    assert not any(isinstance(image, Unreadable) for _, image in listing.reader.read(listing.ids))


def test_the_classes_of_imagenet_take_no_hours(tmp_path: Path, command: Command) -> None:
    steps = (b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    (tmp_path / "set").mkdir()
    key = b"\x80\x02}K\x01\x85" + b"".join(steps) + b"Ns."
    (tmp_path / "set" / "meta.bin").write_bytes(key)
    pack = ("data", "pack", tmp_path / "set", tmp_path / "out", "--name", "torchvision:ImageNet")
    assert command(*pack).refused("meta.bin", "hours")
