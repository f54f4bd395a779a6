"""Data sets and the choices of their images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_images import write_images

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import SPLITS, VisionDataset, open_dataset


def test_selection_is_seeded_and_mixed(digits: VisionDataset) -> None:
    test = digits.select("test", fraction=0.1, seed=3)
    again = digits.select("test", fraction=0.1, seed=3)
    assert test.ids == again.ids
    assert test.fingerprint == again.fingerprint
    assert test.ids != digits.select("test", fraction=0.1, seed=4).ids
    assert len(test) == 160
    assert set(test.ids) < set(digits.select("test", fraction=0.2, seed=3).ids)
    assert len(set(test.labels[:40].tolist())) >= 8
    assert len(digits.select("test", fraction=0.5, limit=7)) == 7


def test_selecting_what_is_not_there(pets: Path) -> None:
    write_images(pets.parent / "two", {"a": 2, "b": 2})
    dataset = open_dataset(DatasetConfig(name="folder", path=str(pets.parent / "two"), per_class=2))
    with pytest.raises(UserError, match=r"test split .* has no images"):
        dataset.select("test")
    with pytest.raises(UserError, match="no split 'val'"):
        dataset.select("val")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"no interpolation 'bicubi'\. Did you mean 'bicubic'\?"):
        dataset.select("train").load((8, 8), interpolation="bicubi")
    with pytest.raises(UserError, match="crop_pct"):
        dataset.select("train").load((8, 8), crop_pct=0)


def test_a_data_set_says_which_splits_it_has(digits: VisionDataset) -> None:
    assert [split for split in SPLITS if digits.has(split)] == ["train", "test"]
    with pytest.raises(UserError, match=r"'digits' has no validation split.*finetune\.validation"):
        digits.select("validation")
    with pytest.raises(UserError, match="no split 'val'"):
        digits.has("val")  # type: ignore[arg-type]


def test_importing_the_package_is_light() -> None:
    code = "import zoo_search.data, sys; print({'ray', 'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
