"""Where the images of a training lie: decoded in the object store, or read as they are needed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from zoo_search import cluster
from zoo_search.core.progress import progress
from zoo_search.data.chunks import fetch
from zoo_search.data.decode import DecodeError, Pixels, Raw, to_rgb
from zoo_search.data.loading import load_images
from zoo_search.data.selection import Ints, Selection
from zoo_search.data.sources.listing import Reader, Unreadable
from zoo_search.finetune.streaming import CHUNK, Streamed, groups_of, streamed
from zoo_search.training.images import ImageSource, InMemory
from zoo_search.training.pictures import PictureAugment
from zoo_search.training.schedules import Protocol, Schedule

if TYPE_CHECKING:
    import ray

    from zoo_search.data.base import Subset, VisionDataset
    from zoo_search.data.preprocess import Preprocess
    from zoo_search.data.view import View

Split = Literal["train", "validation", "test"]
_SAMPLED = 32  # pictures that tell how large the others are


@dataclass(frozen=True, eq=False)
class Kept:
    """Decoded images and labels in the object store, uint8 ``[N, 3, H, W]`` and int64 ``[N]``.

    They are arrays of NumPy, which the processes of a machine share; tensors would be copied.
    """

    data: ray.ObjectRef[tuple[Pixels, Ints, list[Ints] | None]]

    def open(self) -> InMemory:
        """Return them, with the groups of positions that are dear to read apart."""
        import ray

        pixels, labels, groups = ray.get(self.data)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")  # nobody writes to them
            return InMemory(torch.from_numpy(pixels), torch.from_numpy(labels), groups)


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


class Places:
    """Puts the images of a run where its training workers find them.

    What fits a share of the object store is kept decoded: images at the size of a network where
    they are augmented on the device, pictures at their own size where RandAugment goes before.
    Networks of equal views share their images.

    Args:
        dataset: The target.
        seed: Of the selections.
        validation: Share of the training images that is held out of the training.
        keep: Share of the object store's memory for decoded images.
    """

    def __init__(self, dataset: VisionDataset, seed: int, validation: float, keep: float) -> None:
        train, held_out = dataset.select("train", seed=seed), None
        if validation:
            train, held_out = train.hold_out(validation, seed)
        self.splits: dict[Split, Subset] = {"train": train}
        if held_out is not None:
            self.splits["validation"] = held_out
        self.splits["test"] = dataset.select("test", seed=seed)
        self._left = keep * _object_store()
        self._kept: dict[tuple[Split, View], Kept | None] = {}
        self._streamed: dict[Split, Streamed] = {}
        self._pictures: Streamed | None = None

    def train(self, transform: Preprocess, schedule: Schedule, protocol: Protocol) -> Place:
        """Return the training images of a protocol."""
        if schedule.augmentation(protocol) != "rand_augment":
            return self.whole("train", transform)
        change = PictureAugment(transform, schedule.flip, schedule.erase)
        if self._pictures is None:
            self._pictures = self._keep_pictures(self.splits["train"], transform.view)
        return replace(self._pictures, view=transform.view, change=change)

    def whole(self, split: Split, transform: Preprocess) -> Place:
        """Return the images of a split as they are."""
        selection, view = self.splits[split], transform.view
        if (split, view) not in self._kept:
            size = len(selection) * view.nbytes
            self._kept[split, view] = None
            if size <= self._left:
                self._left -= size
                self._kept[split, view] = _keep(selection, view, training=split == "train")
        return self._kept[split, view] or self._stream(split, view)

    def _stream(self, split: Split, view: View) -> Streamed:
        if split not in self._streamed:
            self._streamed[split] = streamed(self.splits[split], view)
        return replace(self._streamed[split], view=view)

    def _keep_pictures(self, selection: Subset, view: View) -> Streamed:
        """Return what streams decoded pictures, or files where these would be too many."""
        import ray

        as_it_is = self._stream("train", view)
        if selection.reader.in_memory:
            return as_it_is
        sample = [_decoded(raw) for _, raw in selection.reader.read(selection.ids[:_SAMPLED])]
        sizes = [picture.nbytes for picture in sample if not isinstance(picture, Unreadable)]
        size = sum(sizes) / len(sizes) * len(selection) if sizes else math.inf
        if size > self._left:
            return as_it_is
        self._left -= size
        decoded = replace(fetch(as_it_is.stored), reader=_decode_once(selection))
        return replace(as_it_is, stored=ray.put(decoded))


def _keep(selection: Subset, view: View, *, training: bool) -> Kept:
    """Decode a selection; in training the next good image stands in for a bad one, as streamed."""
    import ray

    pixels, good = load_images(selection, view)
    labels = selection.labels[good]
    if training and not good.all():
        at = np.flatnonzero(good)
        after = np.searchsorted(at, np.arange(len(good))) % len(at)
        pixels, labels = pixels[after], labels[after]
    return Kept(ray.put((pixels, labels, groups_of(selection) if training else None)))


def _decode_once(selection: Selection) -> KeptReader:
    """Decode every picture on the workers, at its own size."""
    import ray

    def decode_some(reader: Reader, ids: list[str]) -> list[Pixels | Unreadable]:
        found = {name: _decoded(raw) for name, raw in reader.read(ids)}
        return [found[name] for name in ids]

    cluster.ship(type(selection.reader))
    task, reader = ray.remote(num_cpus=1)(decode_some), ray.put(selection.reader)
    groups = [selection.ids[i : i + CHUNK] for i in range(0, len(selection), CHUNK)]
    chunks = [task.remote(reader, group) for group in groups]
    with progress("decoding the training images", len(chunks)) as bar:
        cluster.gather(chunks, what="decoded images", on_result=lambda index, value: bar.advance())
    return KeptReader(chunks, {name: i for i, name in enumerate(selection.ids)})


def _decoded(raw: Raw | Unreadable) -> Pixels | Unreadable:
    if isinstance(raw, Unreadable):
        return raw
    try:
        return np.asarray(to_rgb(raw))
    except DecodeError as error:
        return Unreadable(str(error))


def _object_store() -> float:
    """Return the bytes of a node's object store."""
    import ray

    found = cluster.resources()
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return total.get("object_store_memory", 0.0) / max(1, found.nodes)
