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


def test_folds_are_parts_and_what_is_left(digits: VisionDataset) -> None:
    train = digits.select("train", limit=47)
    folds = train.folds(5, seed=3)
    assert len(folds) == 5
    held_out = [name for _, part in folds for name in part.ids]
    assert sorted(held_out) == sorted(train.ids)
    for left, part in folds:
        assert len(part) in (9, 10)
        assert [name for name in train.ids if name not in part.ids] == left.ids
        label = dict(zip(train.ids, train.labels.tolist(), strict=True))
        for some in (left, part):
            assert [label[name] for name in some.ids] == some.labels.tolist()
            assert (some.classes, some.reader) == (train.classes, train.reader)
            assert some.skipped is train.skipped  # what is bad counts over all folds
    assert len({some.fingerprint for fold in folds for some in fold}) == 10
    again = digits.select("train", limit=47).folds(5, seed=3)
    assert [[s.fingerprint for s in fold] for fold in again] == [
        [s.fingerprint for s in fold] for fold in folds
    ]
    assert train.folds(5, seed=4)[0][1].ids != folds[0][1].ids


def test_folds_do_not_depend_on_the_order_of_the_images(digits: VisionDataset) -> None:
    one, other = (digits.select("train", seed=seed) for seed in (0, 1))
    assert one.ids != other.ids
    for (_, part), (_, same) in zip(one.folds(3, 0), other.folds(3, 0), strict=True):
        assert set(part.ids) == set(same.ids)


def test_the_only_image_of_a_class_is_trained_on_in_every_fold(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/a": 1, "train/b": 2, "train/c": 5, "test/a": 1})
    train = open_dataset(DatasetConfig(name="folder", path=str(tmp_path))).select("train")
    folds = train.folds(2, seed=0)
    for left, part in folds:
        assert "train/a/0.png" in left.ids
        assert set(left.labels.tolist()) == {0, 1, 2}
        assert sorted([*left.ids, *part.ids]) == sorted(train.ids)
    assert sorted(len(part) for _, part in folds) == [3, 4]
    assert len(train.folds(7, seed=0)) == 7


@pytest.mark.parametrize(
    ("counts", "count", "said"),
    [
        ((1, 1), 2, r"finetune\.validation: no class of the 2 training images has two images"),
        ((1, 3), 4, r"4 folds need 4 images .* there are 3\. Ask for 3 folds at most"),
        ((5, 5), 1, r"1 folds are no cross-validation"),
    ],
)
def test_folds_that_cannot_be_are_refused(
    tmp_path: Path, counts: tuple[int, int], count: int, said: str
) -> None:
    a, b = counts
    write_images(tmp_path, {"train/a": a, "train/b": b, "test/a": 1})
    train = open_dataset(DatasetConfig(name="folder", path=str(tmp_path))).select("train")
    with pytest.raises(UserError, match=said):
        train.folds(count, seed=0)


def test_importing_the_package_is_light() -> None:
    code = "import zoo_search.data, sys; print({'ray', 'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
