"""WebDataset tar shards, read at any place: each image is a range of bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError, some
from zoo_search.core.identity import ranks
from zoo_search.core.progress import Bar, progress
from zoo_search.data.decode import Raw
from zoo_search.data.sources.files import FileTree, Part, open_files
from zoo_search.data.sources.held_out import by_split, split_in
from zoo_search.data.sources.listing import (
    Label,
    Listing,
    Reader,
    Unreadable,
    check_kinds,
    numbered,
)
from zoo_search.data.sources.shard_index import CLASSES, find_classes, find_index
from zoo_search.data.sources.tar import ALLOWED, samples

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_LONG = 2**30  # bytes of shards from which the walk through their headers is shown
_NEWS = 2**26  # bytes between two reports of a shard


@dataclass(frozen=True)
class Places:
    """Where N images lie: position of the shard, ``int32``, offset and size, ``int64``, all [N]."""

    shard: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]


class ShardReader(Reader):
    """Reads images by ``SHARD:KEY``, each by its range of bytes; 28 bytes of memory an image."""

    def __init__(
        self, tree: FileTree, shards: Sequence[str], ids: Sequence[str], places: Places
    ) -> None:
        self.tree, self.shards, self._salt = tree, list(shards), 0
        while len(np.unique(keys := ranks(ids, self._salt, "shard"))) < len(ids):
            self._salt += 1  # two of the ids, which differ, have the same 64 bits
        order = np.argsort(keys)
        self._keys = keys[order]
        self._places = Places(places.shard[order], places.offset[order], places.size[order])

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the bytes of each id, 32 of them in flight on a remote store."""
        parts = self._parts(ids)
        size = {part.key: (part.stop or 0) - (part.start or 0) for part in parts}
        for name, data in self.tree.read_parts(parts):
            short = isinstance(data, bytes) and len(data) < size[name]
            yield name, Unreadable("the shard ends before the image does") if short else data

    def _parts(self, ids: Sequence[str]) -> list[Part]:
        keys = ranks(ids, self._salt, "shard")
        rows = np.searchsorted(self._keys, keys)
        if len(ids) and not np.array_equal(self._keys[rows % len(self._keys)], keys):
            raise KeyError("an id of another data set")
        shard, offset = self._places.shard[rows].tolist(), self._places.offset[rows].tolist()
        stop = (self._places.offset[rows] + self._places.size[rows]).tolist()
        return [
            Part(name, self.shards[s], a, b)
            for name, s, a, b in zip(ids, shard, offset, stop, strict=True)
        ]


def webdataset(config: DatasetConfig) -> Listing:
    """List a WebDataset shard, or every ``.tar`` below a folder.

    Samples are consecutive members that share the part of their name before the first dot of its
    last component; the image is the member with an image's ending, the label the member ``.cls``
    (an integer or the name of a class), else ``.json`` with one of
    :data:`zoo_search.data.sources.tar.LABEL_KEYS`. Classes are the lines of ``classes.txt`` beside
    the shards, where integers are positions, else the sorted labels. The usual words in the
    shards' paths give the splits (:mod:`zoo_search.data.sources.held_out`). Ids are ``SHARD:KEY``.
    Where ``zoo-search data pack`` has left an index of shards of these sizes it is taken; else the
    headers are walked
    through. Content hash:
    :meth:`zoo_search.data.sources.files.FileTree.content_hash` of the shards.

    Raises:
        UserError: If nothing is there, a shard is compressed or damaged, a sample has no image or
            no label, a key comes twice, or labels and classes do not fit.
    """
    tree, found = open_files(config, ".tar", *_COMPRESSED)
    if compressed := [name for name in found if name.endswith(_COMPRESSED)]:
        raise UserError(
            f"dataset.path: {config.path} has compressed shards: {some(compressed, ', ', ' and')}. "
            "Images are read at any place of a shard, so only plain .tar is allowed, which is "
            "hardly larger: images are compressed themselves. Unpack them (gunzip, unzstd)."
        )
    table = find_index(tree, found)
    if table is None:
        ids, labels, places = _walk(tree, found)
    else:
        position = {name: i for i, name in enumerate(found)}
        shard = np.asarray([position[name] for name in table["shard"].to_pylist()], np.int32)
        order = np.argsort(shard, kind="stable")  # as the shards are walked through
        shard, table = shard[order], table.take(order)
        places = Places(shard, table["offset"].to_numpy(), table["size"].to_numpy())
        ids, labels = table["id"].to_pylist(), table["label"].to_pylist()
    classes, positions = _classes(tree, labels, str(config.path))
    words = [split_in(name, config.splits) for name in found]
    keep, splits = by_split([words[s] for s in places.shard.tolist()], config.splits)
    return Listing(
        classes=classes,
        ids=[ids[i] for i in keep],
        labels=[positions[i] for i in keep],
        splits=splits,
        content=tree.content_hash(found),
        reader=ShardReader(tree, list(found), ids, places),
        sizes=places.size[keep].astype(np.int64),
    )


def _walk(tree: FileTree, found: Mapping[str, int]) -> tuple[list[str], list[Label], Places]:
    """Return ids, labels and places of all samples, from the headers of the shards."""
    ids: list[str] = []
    labels: list[Label] = []
    places: list[npt.NDArray[np.int64]] = []
    total = sum(found.values())

    def one(name: str) -> tuple[list[str], list[Label], npt.NDArray[np.int64]]:
        keys: list[str] = []
        named: list[Label] = []
        spans: list[int] = []

        def seen(offset: int) -> None:
            bar.under_way(name, offset // _NEWS * _NEWS)

        with tree.open(name) as stream:
            for sample in samples(stream, name, seen):
                keys.append(sample.key)
                named.append(sample.label)
                spans += (sample.offset, sample.size)
        _check_keys(keys, name)
        bar.advance(work=found[name], name=name)
        return [f"{name}:{key}" for key in keys], named, np.asarray(spans, np.int64).reshape(-1, 2)

    title = "headers of shards"
    shown = progress(title, len(found), total) if total > _LONG else None
    with (
        shown or nullcontext(Bar(title, len(found), total)) as bar,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for names, more, spans in pool.map(one, found):
            ids += names
            labels += more
            places.append(spans)
    shard = np.repeat(np.arange(len(places), dtype=np.int32), [len(spans) for spans in places])
    both = np.concatenate(places)
    return ids, labels, Places(shard, both[:, 0].copy(), both[:, 1].copy())


def _check_keys(keys: Sequence[str], shard: str) -> None:
    if len(set(keys)) == len(keys):
        return
    known: set[str] = set()
    twice = ""
    for twice in keys:
        if twice in known:
            break
        known.add(twice)
    raise UserError(
        f"dataset.path: the key '{twice}' comes more than once in {shard}, with other samples "
        "between. All members of a sample must stand together, under a key of its own. Write the "
        "shard again, sorted by name."
    )


def _classes(
    tree: FileTree, labels: Sequence[Label], place: str
) -> tuple[tuple[str, ...], list[int]]:
    """Return the names of the classes and the position of each label among them."""
    if not labels:
        raise UserError(
            f"dataset.path: the shards in {place} hold no samples. {ALLOWED}. Write them again."
        )
    check_kinds(labels, place)
    names = find_classes(tree)
    if names is None:
        return numbered(labels)
    allowed: dict[Label, int] = {name: i for i, name in enumerate(names)}
    if isinstance(labels[0], int):
        allowed = {i: i for i in range(len(names))}
    if strangers := sorted(str(label) for label in set(labels) - allowed.keys()):
        raise UserError(
            f"dataset.path: labels in {place} are not in its {CLASSES}: "
            f"{some(strangers, ', ', ' and')}. Allowed are the {len(names)} names there, or their "
            f"positions 0 to {len(names) - 1}. Add the names, or remove {CLASSES}."
        )
    return names, [allowed[label] for label in labels]
