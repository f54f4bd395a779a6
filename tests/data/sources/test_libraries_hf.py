"""Data sets of the ``datasets`` library, written to disk here and opened without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import SPLITS, open_dataset

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def write(
    folder: Path, counts: dict[str, int], hidden: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Save splits of random 6x6 images, labelled 0, 1, 2, 0, … or ``hidden``; return the images."""
    rng = np.random.default_rng(0)
    arrays = {
        split: rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
        for split, count in counts.items()
    }
    features = datasets.Features(
        {"picture": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee", "cat"])}
    )
    parts = {
        split: datasets.Dataset.from_dict(
            {
                "picture": [Image.fromarray(image) for image in images],
                "label": [-1 if split in hidden else i % 3 for i in range(len(images))],
            },
            features=features,
        )
        for split, images in arrays.items()
    }
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    return arrays


def test_a_data_set_saved_to_disk(tmp_path: Path) -> None:
    arrays = write(tmp_path / "saved", {"train": 30, "validation": 9})
    dataset = open_dataset(DatasetConfig(name="hf:insects", path=str(tmp_path / "saved")))
    assert dataset.classes == ("ant", "bee", "cat")
    for split, source in (("train", "train"), ("test", "validation")):
        loaded = dataset.select(split).load((6, 6))  # type: ignore[arg-type]
        assert len(loaded.ids) == len(arrays[source])
        for name, image, label in zip(loaded.ids, loaded.images, loaded.labels, strict=True):
            position = int(name.rpartition("/")[2])
            assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(arrays[source][position]))
            assert int(label) == position % 3


def test_validation_beside_a_test_is_a_split_of_its_own(tmp_path: Path) -> None:
    arrays = write(tmp_path / "saved", {"validation": 9, "test": 6, "train": 30})
    dataset = open_dataset(DatasetConfig(name="hf:insects", path=str(tmp_path / "saved")))
    for split in SPLITS:
        loaded = dataset.select(split).load((6, 6))
        assert len(loaded.ids) == len(arrays[split])
        for name, image in zip(loaded.ids, loaded.images, strict=True):
            part, _, position = name.rpartition("/")
            assert part == split
            expected = torch.from_numpy(arrays[split][int(position)])
            assert torch.equal(image.permute(1, 2, 0), expected)


@pytest.mark.parametrize(("hidden", "test"), [("test", "validation"), ("validation", "test")])
def test_a_split_with_hidden_labels_is_none(tmp_path: Path, hidden: str, test: str) -> None:
    arrays = write(tmp_path / "saved", {"train": 30, "validation": 9, "test": 6}, (hidden,))
    dataset = open_dataset(DatasetConfig(name="hf:insects", path=str(tmp_path / "saved")))
    assert not dataset.has("validation")
    assert len(dataset.select("test")) == len(arrays[test])


def test_a_data_set_without_a_held_out_part_is_split_here(tmp_path: Path) -> None:
    write(tmp_path / "saved", {"train": 30})
    config = DatasetConfig(name="hf:insects", path=str(tmp_path / "saved"), per_class=4)
    dataset = open_dataset(config)
    assert (len(dataset.select("train")), len(dataset.select("test"))) == (12, 18)
    again = open_dataset(config)
    assert again.fingerprint == dataset.fingerprint


def test_what_is_no_data_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data set 'insects' cannot be opened"):
        open_dataset(DatasetConfig(name="hf:insects", path=str(tmp_path)))
    datasets.Dataset.from_dict({"a": [1, 2]}).save_to_disk(str(tmp_path / "plain"))
    with pytest.raises(UserError, match="no image or no label column; its columns: a"):
        open_dataset(DatasetConfig(name="hf:insects", path=str(tmp_path / "plain")))
