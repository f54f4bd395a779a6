"""Batches of decoded images, a window at a time."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset
from zoo_search.data.base import Subset
from zoo_search.data.view import View
from zoo_search.similarities.passes.first import checked
from zoo_search.similarities.passes.images import image_batches, windows_of
from zoo_search.similarities.step import fixed_batches

SMALL = View((16, 16), "bilinear", 1.0)


def folder(root: Path, broken: tuple[str, ...], max_bad: float) -> Subset:
    """Return ten training images, some of them no pictures."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("x", "y"):
            (root / split / name).mkdir(parents=True)
            for i in range(5):
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    for name in broken:
        (root / "train" / name).write_bytes(b"no picture")
    config = DatasetConfig(name="folder", path=str(root), max_bad=max_bad)
    return open_dataset(config).select("train")


@pytest.mark.usefixtures("ray_cluster")
def test_batches_hold_the_same_pixels_and_leave_out_what_cannot_be_decoded(tmp_path: Path) -> None:
    import ray

    subset = folder(tmp_path, ("x/3.png",), 0.2)
    batches = fixed_batches(subset.ids, 4, seed=1)
    assert sorted(map(len, batches)) == [4, 6]

    [found] = image_batches(subset, batches, SMALL, [[0, 1]], 1)
    loaded = subset.load((16, 16), "bilinear")
    pixels = dict(zip(loaded.ids, loaded.images.numpy(), strict=True))
    for batch, planned in zip(found, batches, strict=True):
        assert batch.ids == [name for name in planned if not name.endswith("x/3.png")]
        images = ray.get(batch.images)
        assert images.dtype == np.uint8
        assert (images == np.stack([pixels[name] for name in batch.ids])).all()
    assert sum(len(batch.ids) for batch in found) == 9
    [[other], [alone]] = image_batches(subset, batches, SMALL, [[0], [1]], 1)
    assert (other.index, other.ids) == (0, found[0].ids)
    assert (alone.index, alone.ids) == (1, found[1].ids)
    assert (ray.get(alone.images) == ray.get(found[1].images)).all()


@pytest.mark.usefixtures("ray_cluster")
def test_bad_images_of_all_windows_are_counted_together(tmp_path: Path) -> None:
    """One bad image of ten is allowed, and the second one is not, wherever it lies."""
    subset = folder(tmp_path, ("x/3.png", "y/1.png"), 0.1)
    batches = [[name for name in subset.ids if f"/{c}/" in name] for c in "xy"]
    list(image_batches(subset, batches, SMALL, [[0]], 1))
    with pytest.raises(Exception, match="2 of 10 images could not be decoded"):
        list(image_batches(subset, batches, SMALL, [[1]], 1))
    assert sorted(subset.skipped.reasons()) == ["train/x/3.png", "train/y/1.png"]


def test_a_batch_of_too_few_images_is_named() -> None:
    from zoo_search.similarities.passes.images import ImageBatch

    checked([ImageBatch(0, list("abcd"), None)])
    with pytest.raises(UserError, match="Only 3 images of batch 7 can be decoded"):
        checked([ImageBatch(0, list("abcd"), None), ImageBatch(7, list("abc"), None)])


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(0, 120))
def test_windows_hold_every_batch_once_and_keep_to_the_budget(
    sizes: list[int], budget: int
) -> None:
    windows = list(windows_of(sizes, budget))
    assert [index for window in windows for index in window] == list(range(len(sizes)))
    for window in windows:
        assert len(window) == 1 or sum(sizes[i] for i in window) <= budget
    for before, after in itertools.pairwise(windows):
        assert sum(sizes[i] for i in before) + sizes[after[0]] > budget
