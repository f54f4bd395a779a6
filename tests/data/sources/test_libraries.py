"""Data sets of torchvision, from files written here."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from small_images import by_split

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import SPLITS, open_dataset


def write_mnist(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write MNIST's own IDX format (magic 2051 and 2049, big-endian sizes, bytes)."""
    folder.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">iiii", 2051, *images.shape)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    head = struct.pack(">ii", 2049, len(labels))
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def test_torchvision_mnist(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = np.arange(60, dtype=np.uint8) % 10
    write_mnist(tmp_path / "MNIST/raw", "train", images[:40], labels[:40])
    write_mnist(tmp_path / "MNIST/raw", "t10k", images[40:], labels[40:])
    dataset = open_dataset(DatasetConfig(name="torchvision:MNIST", path=str(tmp_path)))
    assert dataset.classes[3] == "3 - three"
    assert (len(dataset.select("train")), len(dataset.select("test"))) == (40, 20)
    for split, first in (("train", 0), ("test", 40)):
        loaded = dataset.select(split).load((28, 28))  # type: ignore[arg-type]
        for name, image, label in zip(loaded.ids, loaded.images, loaded.labels, strict=True):
            position = first + int(name.removeprefix(f"{split}/"))
            assert torch.equal(image[0], torch.from_numpy(images[position]))
            assert label == labels[position]
    images[59, 0, 0] ^= 1
    write_mnist(tmp_path / "MNIST/raw", "t10k", images[40:], labels[40:])
    again = open_dataset(DatasetConfig(name="torchvision:MNIST", path=str(tmp_path)))
    assert again.fingerprint != dataset.fingerprint


def test_torchvision_splits_by_argument(tmp_path: Path) -> None:
    """EuroSAT has no split at all, Imagenette has ``split`` with train and val."""
    for part in ("train", "val"):
        for wnid in torchvision.datasets.Imagenette._WNID_TO_CLASS:
            folder = tmp_path / "imagenette2" / part / wnid
            folder.mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (9, 9)).save(folder / f"{wnid}_{i}.JPEG")
    dataset = open_dataset(DatasetConfig(name="torchvision:Imagenette", path=str(tmp_path)))
    assert len(dataset.classes) == 10
    assert (len(dataset.select("train")), len(dataset.select("test"))) == (20, 20)
    assert all(name.startswith("test/") for name in dataset.select("test").ids)


def test_torchvision_without_the_files_of_a_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with PCAM, whose splits are fetched one by one."""

    class PerSplit(torchvision.datasets.DTD):
        def __init__(self, root: str, split: str = "train") -> None:
            if split in gone:
                raise RuntimeError(f"no files of {split}")
            super().__init__(root, split)

    gone: set[str] = set()
    root = tmp_path / "persplit/dtd"
    (root / "labels").mkdir(parents=True)
    for part in ("train", "val", "test"):
        names = [f"{name}/{part}.png" for name in ("a", "b")]
        (root / f"labels/{part}1.txt").write_text("\n".join(names), encoding="utf-8")
        for name in names:
            (root / "images" / name).parent.mkdir(exist_ok=True, parents=True)
            Image.new("RGB", (9, 9)).save(root / "images" / name)
    monkeypatch.setattr(torchvision.datasets, "DTD", PerSplit)
    config = DatasetConfig(name="torchvision:DTD", path=str(tmp_path))
    assert by_split(open_dataset(config)) == {
        split: {f"{split}/{i:07d}" for i in range(2)} for split in SPLITS
    }
    gone.add("val")
    split = by_split(open_dataset(config))
    assert (len(split["train"]), split["validation"], len(split["test"])) == (2, set(), 2)
    gone.symmetric_difference_update({"val", "test"})
    with pytest.raises(UserError, match="no files of test"):
        open_dataset(config)


def test_torchvision_without_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="torchvision's CIFAR10 cannot be opened"):
        open_dataset(DatasetConfig(name="torchvision:CIFAR10", path=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
