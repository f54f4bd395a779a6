"""Where the images of a training lie: decoded in the object store, or read as they are needed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from zoo_search import cluster
from zoo_search.core.progress import progress
from zoo_search.data.chunks import fetch
from zoo_search.data.decode import DecodeError, Pixels, Raw, to_rgb
from zoo_search.data.loading import load_images
from zoo_search.data.on_ray import count_bad
from zoo_search.data.selection import Ints, Selection
from zoo_search.data.sources.listing import Reader, Unreadable, limits_of
from zoo_search.finetune.images.streaming import CHUNK, Streamed, groups_of, streamed
from zoo_search.training.images import ImageSource, InMemory
from zoo_search.training.pictures import PictureAugment
from zoo_search.training.schedules import Protocol, Schedule

if TYPE_CHECKING:
    import ray

    from zoo_search.data.base import Subset, VisionDataset
    from zoo_search.data.preprocess import Preprocess
    from zoo_search.data.view import View

_SAMPLED = 32  # pictures that tell how large the others are
_SHARE = 0.2  # of the training images that is held out where nothing is told


@dataclass(frozen=True, eq=False)
class Kept:
    """Decoded images and labels in the object store, uint8 ``[N, 3, H, W]`` and int64 ``[N]``.

    They are arrays of NumPy, which the processes of a machine share; tensors would be copied.

    Attributes:
        data: All images of a split; those that could not be decoded have the label -1.
        at: Positions of those that are meant; None: all.
        groups: Places in ``at`` that are dear to read apart.
        training: The next good image stands in for a bad one, as where they are streamed.
    """

    data: ray.ObjectRef[tuple[Pixels, Ints]]
    at: Ints | None = None
    groups: list[Ints] | None = None
    training: bool = False

    def open(self) -> InMemory:
        """Return them, with the groups of positions that are dear to read apart."""
        import ray

        pixels, labels = ray.get(self.data)
        at = self.at
        if self.training:
            at = np.arange(len(labels)) if at is None else at
            good = np.flatnonzero(labels[at] >= 0)
            if len(good) < len(at):
                at = at[good[np.searchsorted(good, np.arange(len(at))) % len(good)]]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")  # nobody writes to them
            images = torch.from_numpy(pixels), torch.from_numpy(labels)
        return InMemory(*images, self.groups, None if at is None else torch.from_numpy(at))


Place = Kept | Streamed


def open_images(place: Place) -> ImageSource:
    """Return the images of a place as a source."""
    return place.open() if isinstance(place, Kept) else place


@dataclass(frozen=True)
class KeptReader(Reader):
    """Pictures that were decoded once, at their own size, in the object store."""

    in_memory = False
    chunks: Sequence[ray.ObjectRef[list[Pixels | Unreadable]]]
    at: Mapping[str, int]

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the pixels of each id."""
        import ray

        held: dict[int, list[Pixels | Unreadable]] = {}
        for name in ids:
            chunk, place = divmod(self.at[name], CHUNK)
            if chunk not in held:
                held[chunk] = ray.get(self.chunks[chunk])
            yield name, held[chunk][place]


@dataclass(frozen=True, eq=False)
class Fold:
    """The images that one training learns from, and those that it is judged on.

    Attributes:
        whole: All training images.
        train: Learned from.
        validation: Held out of the training; None: nothing judges it.
        at: Positions of the former among all training images; None: all of them.
        held: Positions of the latter among them; None: they are no training images.
    """

    whole: Subset
    train: Subset
    validation: Subset | None
    at: Ints | None = None
    held: Ints | None = None


def folds_of(dataset: VisionDataset, seed: int, share: float | None, trainings: int) -> list[Fold]:
    """Return what each training of a network learns from and is judged on.

    Where the data set has a validation split, that judges all of them. Else each training holds
    out another part of the training images, of all classes alike, so that over all trainings more
    images judge than any of them does without.

    Args:
        dataset: The target.
        seed: Of the choice.
        share: Of the training images that each training holds out, even where there is a
            validation split, as one of so many equal parts (at most a half); 0: nothing is held
            out; None: the data set's own split, else a fifth.
        trainings: How many folds.

    Raises:
        UserError: If there are too few images to hold any out.
    """
    train = dataset.select("train", seed=seed)
    if share is None and dataset.has("validation"):
        return [Fold(train, train, dataset.select("validation", seed=seed))] * trainings
    share = _SHARE if share is None else share
    if not share:
        return [Fold(train, train, None)] * trainings
    place = {name: i for i, name in enumerate(train.ids)}

    def at(part: Subset) -> Ints:
        return np.asarray([place[name] for name in part.ids], dtype=np.int64)

    # A class's only image is never held out; without any other, folds says what to do.
    free = int((np.bincount(train.labels)[train.labels] > 1).sum())
    count = min(max(2, round(1 / share)), max(2, free))
    parts = train.folds(count, seed, trainings)
    cycle = [parts[number % len(parts)] for number in range(trainings)]
    return [Fold(train, left, held, at(left), at(held)) for left, held in cycle]


class Places:
    """Puts the images of a run where its training workers find them.

    What fits a share of the object store is kept decoded, once for all folds: images at the size
    of a network where they are augmented on the device, pictures at their own size where
    RandAugment goes before. Networks of equal views share their images.

    Args:
        dataset: The target.
        folds: What trainings learn from and are judged on.
        seed: Of the selections.
        keep: Share of the object store's memory for decoded images.
    """

    def __init__(
        self, dataset: VisionDataset, folds: Sequence[Fold], seed: int, keep: float
    ) -> None:
        self.whole = folds[0].whole
        self.test_set = dataset.select("test", seed=seed)
        self.folds = folds
        self._left = keep * _object_store()
        self._kept: dict[tuple[str, View], Kept | None] = {}
        self._streamed: dict[str, Streamed] = {}
        self._reader: KeptReader | None = None
        self._as_files = False  # decoded pictures would be too many

    def train(
        self, fold: int | None, transform: Preprocess, schedule: Schedule, protocol: Protocol
    ) -> Place:
        """Return the training images of a protocol; of no fold: all."""
        chosen = Fold(self.whole, self.whole, None) if fold is None else self.folds[fold]
        if schedule.augmentation(protocol) != "rand_augment":
            kept = self._keep(self.whole, transform.view)
            if kept is None:
                return self._stream(chosen.train, transform.view)
            groups = groups_of(chosen.train)
            return replace(kept, at=chosen.at, groups=groups, training=True)
        change = PictureAugment(transform, schedule.flip, schedule.erase)
        streams = self._stream_pictures(chosen.train, transform.view)
        return replace(streams, view=transform.view, change=change)

    def validation(self, fold: int | None, transform: Preprocess) -> Place | None:
        """Return the images that a fold is judged on, as they are."""
        chosen = None if fold is None else self.folds[fold]
        if chosen is None or chosen.validation is None:
            return None
        if chosen.held is None:  # a split of its own
            return self._whole(chosen.validation, transform.view)
        kept = self._keep(self.whole, transform.view)
        if kept is None:
            return self._stream(chosen.validation, transform.view)
        return replace(kept, at=chosen.held)

    def test(self, transform: Preprocess) -> Place:
        """Return the test images as they are."""
        return self._whole(self.test_set, transform.view)

    def _whole(self, selection: Subset, view: View) -> Place:
        return self._keep(selection, view) or self._stream(selection, view)

    def _keep(self, selection: Subset, view: View) -> Kept | None:
        """Return a selection, decoded, or None where it is too large."""
        key = selection.fingerprint, view
        if key not in self._kept:
            size = len(selection) * view.nbytes
            self._kept[key] = None
            if size <= self._left:
                self._left -= size
                self._kept[key] = _decode(selection, view)
        return self._kept[key]

    def _stream(self, selection: Subset, view: View) -> Streamed:
        key = selection.fingerprint
        if key not in self._streamed:
            if selection.skipped is self.whole.skipped:
                count_bad(self.whole)  # what is bad in a fold counts as bad in all of them
            self._streamed[key] = streamed(selection, view)
        return replace(self._streamed[key], view=view)

    def _stream_pictures(self, selection: Subset, view: View) -> Streamed:
        """Return what streams decoded pictures, or files where these would be too many."""
        import ray

        as_it_is = self._stream(selection, view)
        if selection.reader.in_memory or self._as_files:
            return as_it_is
        key = f"pictures {selection.fingerprint}"
        if key not in self._streamed:
            if self._reader is None and not self._has_room(self.whole):
                self._as_files = True
                return as_it_is
            self._reader = self._reader or _decode_once(self.whole)
            decoded = replace(fetch(as_it_is.stored), reader=self._reader)
            self._streamed[key] = replace(as_it_is, stored=ray.put(decoded))
        return self._streamed[key]

    def _has_room(self, selection: Subset) -> bool:
        """Say whether all pictures of a selection may be kept, and count them as kept then."""
        reader = selection.reader
        sample = [_decoded(raw, reader) for _, raw in reader.read(selection.ids[:_SAMPLED])]
        sizes = [picture.nbytes for picture in sample if not isinstance(picture, Unreadable)]
        size = sum(sizes) / len(sizes) * len(selection) if sizes else math.inf
        if size > self._left:
            return False
        self._left -= size
        return True


def _decode(selection: Subset, view: View) -> Kept:
    """Decode a selection."""
    import ray

    pixels, good = load_images(selection, view)
    labels = np.where(good, selection.labels, -1)
    if not good.all():
        every = np.zeros((len(good), *pixels.shape[1:]), dtype=pixels.dtype)
        every[good] = pixels
        pixels = every
    return Kept(ray.put((pixels, labels)))


def _decode_once(selection: Selection) -> KeptReader:
    """Decode every picture on the workers, at its own size."""
    import ray

    def decode_some(reader: Reader, ids: list[str]) -> list[Pixels | Unreadable]:
        found = {name: _decoded(raw, reader) for name, raw in reader.read(ids)}
        return [found[name] for name in ids]

    cluster.ship(type(selection.reader))
    task, reader = ray.remote(num_cpus=1)(decode_some), ray.put(selection.reader)
    groups = [selection.ids[i : i + CHUNK] for i in range(0, len(selection), CHUNK)]
    chunks = [task.remote(reader, group) for group in groups]
    with progress("decoding the training images", len(chunks)) as bar:
        cluster.gather(chunks, what="decoded images", on_result=lambda index, value: bar.advance())
    return KeptReader(chunks, {name: i for i, name in enumerate(selection.ids)})


def _decoded(raw: Raw | Unreadable, reader: Reader) -> Pixels | Unreadable:
    if isinstance(raw, Unreadable):
        return raw
    try:
        return np.asarray(to_rgb(raw, *limits_of(reader)))
    except DecodeError as error:
        return Unreadable(str(error))


def _object_store() -> float:
    """Return the bytes of a node's object store."""
    import ray

    found = cluster.resources()
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return total.get("object_store_memory", 0.0) / max(1, found.nodes)
