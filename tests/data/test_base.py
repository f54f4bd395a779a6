"""Data sets and the choices of their images."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_images import write_images

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.data.base import Subset


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


def test_importing_the_package_is_light() -> None:
    code = "import zoo_search.data, sys; print({'ray', 'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda s: max(s) > 1),
    count=st.integers(2, 7),
    seed=st.integers(0, 3),
)
def test_folds_share_the_images_out_class_by_class(sizes: list[int], count: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    ids = [f"image {i}" for i in range(len(labels))]
    whole = Subset(
        ids=ids,
        labels=labels,
        reader=cast("Any", None),
        classes=tuple(map(str, sizes)),
        fingerprint="x",
    )
    folds = whole.folds(count, seed)
    lone = {name for name, label in zip(ids, labels, strict=True) if sizes[label] == 1}
    assert len(folds) == min(count, len(ids) - len(lone))
    held = [name for _, part in folds for name in part.ids]
    assert sorted(held) == sorted(set(ids) - lone)  # each once
    for rest, part in folds:
        assert sorted([*rest.ids, *part.ids]) == sorted(ids)
        assert rest.fingerprint != part.fingerprint
        assert set(rest.labels) == set(labels)  # a class keeps an image
        own = dict(zip(ids, labels, strict=True))
        assert [own[name] for name in part.ids] == part.labels.tolist()
    parts = np.asarray([np.bincount(p.labels, minlength=len(sizes)) for _, p in folds])
    assert np.ptp(parts, axis=0).max() <= 1
    assert np.ptp(parts.sum(axis=1)) <= 1
    # Nothing depends on the order in which the images are listed.
    turned = replace(whole, ids=ids[::-1], labels=labels[::-1])
    again = [set(part.ids) for _, part in turned.folds(count, seed)]
    assert again == [set(part.ids) for _, part in folds]


def test_where_no_class_has_two_images_none_can_be_held_out(digits: VisionDataset) -> None:
    train = digits.select("train")
    alone = replace(train, ids=train.ids[:1], labels=train.labels[:1])
    with pytest.raises(UserError, match=r"^finetune\.validation: no class of the 1 training"):
        alone.folds(5, 0)
    assert (digits.has("test"), digits.has("validation")) == (True, False)
