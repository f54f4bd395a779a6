"""What every source of images keeps to: ids, labels, splits and a hash of what the images hold."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import SPLITS, Subset, VisionDataset, open_dataset
from zoo_search.data.decode import Pixels
from zoo_search.data.view import Size, View
from zoo_search.testing.small import nothing_else_touched

Found = dict[str, tuple[int, bytes]]
"""Label and pixels by id."""


def loaded(subset: Subset, view: View | Size) -> Found:
    """Return what :meth:`Subset.load` gives, by id."""
    images = subset.load(view)
    assert len(images.ids) == len(set(images.ids))
    pixels = [image.numpy().tobytes() for image in images.images]
    return dict(zip(images.ids, zip(images.labels.tolist(), pixels, strict=True), strict=True))


def check_rows(subset: Subset, view: View | Size) -> None:
    """Check that the rows of a Ray data set are what is loaded in process; needs Ray."""
    found: Found = {}
    for batch in subset.rows(view).iter_batches(batch_size=16, batch_format="numpy"):
        for name, label, image in zip(batch["id"], batch["label"], batch["image"], strict=True):
            assert name not in found, f"{name} came twice"
            found[str(name)] = int(label), np.asarray(image, dtype=np.uint8).tobytes()
    assert found == loaded(subset, view)


class SourceContract:
    """Derive from this, write :meth:`write` (or give the fixture ``config``), and run pytest."""

    classes: ClassVar[tuple[str, ...]] = ("ant", "bee", "cat")
    """Classes of the images that are written; four images each."""
    shape: ClassVar[tuple[int, ...]] = (8, 10, 3)
    """Of the images that are written: ``(H, W)`` grey or ``(H, W, 3)``."""
    ordered: ClassVar[bool] = False
    """Whether an image's id is its place, so that another order is another data set."""
    breakable: ClassVar[bool] = True
    """Whether a stored image can turn out to be unreadable."""

    def write(
        self,
        folder: Path,
        images: Sequence[Pixels],
        labels: Sequence[str],
        order: Sequence[int],
        broken: Collection[int],
    ) -> DatasetConfig:
        """Store images as the source reads them, and return the configuration that opens them.

        Not to be written for a source whose images are given: it then gives ``config``, and the
        statements on what was written are skipped.

        Args:
            folder: An empty folder of this data set's own.
            images: uint8 of :attr:`shape`, each different, of the 17 greys ``round(k 255 / 16)``.
            labels: The class of each.
            order: In which order they are to be stored.
            broken: Positions of those whose stored bytes are to be no image.
        """
        pytest.skip("its images are given")

    @pytest.fixture
    def config(self, tmp_path: Path) -> DatasetConfig:
        """The configuration of the data set under test."""
        return self._written(tmp_path / "first")

    def test_ids_are_unique_and_stay(self, config: DatasetConfig) -> None:
        """Opened again, it is the same data set, image by image."""
        first, second = open_dataset(config), open_dataset(config)
        ids = first.index["id"].to_pylist()
        assert ids
        assert all(isinstance(name, str) and name for name in ids)
        assert len(set(ids)) == len(ids)
        assert second.index.equals(first.index)
        assert second.fingerprint == first.fingerprint
        assert second.classes == first.classes

    def test_labels_are_classes(self, config: DatasetConfig) -> None:
        """Every label has a name, and every class an image."""
        dataset = open_dataset(config)
        assert all(isinstance(name, str) and name for name in dataset.classes)
        assert len(set(dataset.classes)) == len(dataset.classes)
        assert set(dataset.index["label"].to_pylist()) == set(range(len(dataset.classes)))

    def test_splits_are_disjoint_and_whole(self, config: DatasetConfig) -> None:
        """No image of the test is looked at before the end; validation is neither of the two.

        There is a training and a test split. ``validation`` may stand beside them: where it is the
        only split that is held out, it is the test.
        """
        dataset = open_dataset(config)
        assert dataset.has("train")
        assert dataset.has("test")
        parts = _parts(dataset)
        every = dataset.index["id"].to_pylist()
        assert sorted(name for part in parts.values() for name in part.ids) == sorted(every)
        pixels = {
            split: {image for _, image in self._loaded(part).values()}
            for split, part in parts.items()
        }
        for one, other in itertools.combinations(parts, 2):
            assert not pixels[one] & pixels[other], f"an image of {one} is in {other}, too"

    def test_groups_hold_every_image_once(self, config: DatasetConfig) -> None:
        """One worker reads one group; what two groups hold, or none, is lost or counts twice."""
        dataset = open_dataset(config)
        ids = dataset.select("train").ids
        for some in (ids, ids[::-1], ids[:1], []):
            grouped = [name for group in dataset.reader.groups(some) for name in group]
            assert sorted(grouped) == sorted(some)
        for group in dataset.reader.groups(ids):
            assert sorted(name for name, _ in dataset.reader.read(group)) == sorted(group)

    def test_decoding_is_the_same_every_time(self, config: DatasetConfig) -> None:
        """Whatever else is read, in whatever order; and the process is left as it was."""
        dataset = open_dataset(config)
        train = dataset.select("train")
        with nothing_else_touched():
            whole = self._loaded(train)
        assert whole == self._loaded(dataset.select("train", seed=1))
        part = dataset.select("train", limit=3)
        assert self._loaded(part) == {name: whole[name] for name in part.ids}

    def test_it_travels_to_a_worker(self, config: DatasetConfig) -> None:
        """Readers are sent to wherever images are decoded."""
        dataset = open_dataset(config)
        subset = dataset.select("train", limit=6)
        there: Subset = pickle.loads(pickle.dumps(subset))
        assert self._loaded(there) == self._loaded(subset)

    def test_images_and_labels_are_those_that_were_written(self, tmp_path: Path) -> None:
        """Pixel by pixel, under the class that they were given."""
        images, labels = self._samples()
        dataset = open_dataset(self._written(tmp_path / "x"))
        assert set(dataset.classes) == set(self.classes)
        expected = sorted(zip(labels, map(_as_rgb, images), strict=True))
        found: Found = {}
        for part in _parts(dataset).values():
            found |= self._loaded(part)
        assert sorted((dataset.classes[n], pixels) for n, pixels in found.values()) == expected

    def test_the_fingerprint_sees_every_pixel_and_label(self, tmp_path: Path) -> None:
        """What was made of other images is made anew."""
        images, labels = self._samples()
        retouched = [image.copy() for image in images]
        retouched[5].flat[3] = 255 if retouched[5].flat[3] < 100 else 0
        relabelled = [*labels[:-1], labels[0]]
        fingerprints = {
            open_dataset(self._written(tmp_path / name, changed)).fingerprint
            for name, changed in {
                "as it is": (images, labels),
                "pixel": (retouched, labels),
                "label": (images, relabelled),
                "fewer": (images[:-1], labels[:-1]),
            }.items()
        }
        assert len(fingerprints) == 4

    def test_the_fingerprint_sees_nothing_else(self, tmp_path: Path) -> None:
        """Neither where the images lie nor when they were put there."""
        first = open_dataset(self._written(tmp_path / "first"))
        moved = open_dataset(self._written(tmp_path / "elsewhere" / "later"))
        assert moved.fingerprint == first.fingerprint
        assert moved.index.equals(first.index)

    def test_the_order_of_the_listing_plays_no_part(self, tmp_path: Path) -> None:
        """A folder lists its files as it likes."""
        if self.ordered:
            pytest.skip("an id is a place")
        order = np.random.default_rng(0).permutation(4 * len(self.classes)).tolist()
        first = open_dataset(self._written(tmp_path / "first"))
        other = open_dataset(self._written(tmp_path / "other", order=order))
        assert other.fingerprint == first.fingerprint
        assert other.select("train").ids == first.select("train").ids
        assert self._loaded(other.select("train")) == self._loaded(first.select("train"))

    def test_bad_images_are_counted_and_left_out(self, tmp_path: Path) -> None:
        """Up to a share; they are named, and the others are what they were."""
        if not self.breakable:
            pytest.skip("its images are decoded already")
        whole = open_dataset(self._written(tmp_path / "whole"))
        config = self._written(tmp_path / "bad", broken=(1, 6))
        dataset = open_dataset(config.model_copy(update={"max_bad": 0.9}))
        assert dataset.index.equals(whole.index)
        skipped: dict[str, str] = {}
        expected = {split: self._loaded(part) for split, part in _parts(whole).items()}
        for split, subset in _parts(dataset).items():
            good = self._loaded(subset)
            skipped |= subset.skipped.reasons()
            assert [*good] == [name for name in subset.ids if name not in skipped]
            assert good == {name: expected[split][name] for name in good}
        assert len(skipped) == 2
        assert all(skipped.values()), "a reason without words"
        strict = open_dataset(config.model_copy(update={"max_bad": 0.0}))
        for subset in _parts(strict).values():
            if skipped.keys() & set(subset.ids):
                with pytest.raises(UserError, match="could not be decoded"):
                    self._loaded(subset)

    def _loaded(self, subset: Subset) -> Found:
        return loaded(subset, (self.shape[0], self.shape[1]))

    def _samples(self) -> tuple[list[Pixels], list[str]]:
        labels = 4 * list(self.classes)
        rng = np.random.default_rng(7)
        greys = rng.integers(0, 17, (len(labels), *self.shape))
        return list(np.rint(greys * (255 / 16)).astype(np.uint8)), labels

    def _written(
        self,
        folder: Path,
        samples: tuple[list[Pixels], list[str]] | None = None,
        order: Sequence[int] = (),
        broken: Collection[int] = (),
    ) -> DatasetConfig:
        images, labels = samples or self._samples()
        folder.mkdir(parents=True)
        return self.write(folder, images, labels, order or range(len(images)), broken)


def _parts(dataset: VisionDataset) -> dict[str, Subset]:
    """Return the splits that are there, two or three."""
    return {split: dataset.select(split) for split in SPLITS if dataset.has(split)}


def _as_rgb(image: Pixels) -> bytes:
    """Return an image as it is decoded, ``[3, H, W]``."""
    rgb = np.stack([image] * 3) if image.ndim == 2 else image.transpose(2, 0, 1)
    return rgb.tobytes()
