"""The same images in two splits: what was trained on tells nothing in a test."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo_search.core.identity import ranks
from zoo_search.data.decode import Raw
from zoo_search.data.loading import quiet_pil
from zoo_search.data.sources.listing import Reader, Unreadable
from zoo_search.data.splits import SPLITS

MOST_BYTES = 256 * 10**6
"""That are read to count duplicates; of larger data sets a part is looked at."""
MOST_IMAGES = 20_000
"""Read to count duplicates, where a source does not say how large its images are."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Twins:
    """Images of a split that are in an earlier one of train, validation and test as well.

    Attributes:
        of: Position of an image in a later split, to that of one with the same content.
        looked: How many images of the later splits were compared with the earlier ones.
        total: How many there are.
    """

    of: dict[int, int]
    looked: int
    total: int


def twins(
    reader: Reader,
    ids: Sequence[str],
    split: Sequence[str | None],
    sizes: Ints | None = None,
    *,
    every: bool = False,
) -> Twins:
    """Find the images that two splits share, by what is stored: bytes of files, or arrays.

    Only images of a size that is in two splits are read, whose sizes are known. Beyond
    :data:`MOST_BYTES` a choice of the sizes is looked at, which depends on them alone; where they
    are not known, and the images not in memory, none beyond :data:`MOST_IMAGES`. What cannot be
    read is no duplicate.

    Args:
        reader: Of the images.
        ids: All images, [N].
        split: Of each image; None: of none.
        sizes: Bytes of each image, [N], where they are known.
        every: Look at all, whatever has to be read.
    """
    order = np.asarray([-1 if part is None else SPLITS.index(part) for part in split], np.int64)
    used = np.flatnonzero(order >= 0)
    first = int(order[used].min()) if len(used) else 0
    later = int((order > first).sum())
    if not later or not (order == first).any():
        return Twins({}, 0, later)
    if sizes is None:
        if not every and not reader.in_memory and len(used) > MOST_IMAGES:
            return Twins({}, 0, later)
        read, passed = used, 0
    else:
        read, passed = _of_shared_sizes(sizes[used], order[used], None if every else MOST_BYTES)
        read = used[read]
    looked = later - passed
    found: dict[bytes, int] = {}
    of: dict[int, int] = {}
    digests = _digests(reader, [ids[i] for i in read.tolist()])
    # Earlier splits first, so that each image meets those that it could be a copy of.
    for i in sorted(read.tolist(), key=lambda i: (order[i], ids[i])):
        digest = digests.get(ids[i])
        if digest is None:
            continue
        at = found.setdefault(digest, i)
        if order[at] < order[i]:
            of[i] = at
    return Twins(of, looked, later)


def _of_shared_sizes(sizes: Ints, order: Ints, most: int | None) -> tuple[Ints, int]:
    """Return the positions of the images to read, and how many of later splits are passed by."""
    values, group = np.unique(sizes, return_inverse=True)
    splits = np.zeros((len(values), len(SPLITS)), np.int64)
    np.add.at(splits, (group, order), 1)
    shared = ((splits > 0).sum(axis=1) > 1) & (values > 0)
    taken = shared
    if most is not None:
        mixed = np.argsort(ranks([str(v) for v in values], 0, "duplicates"), kind="stable")
        mixed = mixed[shared[mixed]]
        bytes_of = np.cumsum((values * splits.sum(axis=1))[mixed])
        taken = np.zeros(len(values), np.bool_)
        taken[mixed[bytes_of <= most]] = True
    first = int(order.min())
    passed = int((shared & ~taken)[group][order > first].sum())
    return np.flatnonzero(taken[group]), passed


def _digests(reader: Reader, ids: list[str]) -> dict[str, bytes]:
    """Return a hash of what is stored for each image that can be read."""
    found: dict[str, bytes] = {}

    def work(group: list[str]) -> None:
        # As in loading: every id is in one group, so that no two threads write the same key.
        for name, raw in reader.read(group):
            digest = None if isinstance(raw, Unreadable) else _digest(raw)
            if digest is not None:
                found[name] = digest

    with quiet_pil(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(work, reader.groups(ids)))
    return found


def _digest(raw: Raw) -> bytes | None:
    """Return a hash of bytes, or of pixels with their shape and type; None: there is nothing."""
    if isinstance(raw, bytes):
        return hashlib.blake2b(raw, digest_size=16).digest() if raw else None
    try:
        array = np.ascontiguousarray(np.asarray(raw))
    except Exception:  # a picture that is decoded here, and decoders raise anything
        return None
    digest = hashlib.blake2b(f"{array.dtype.str} {array.shape} ".encode(), digest_size=16)
    digest.update(array.tobytes())
    return digest.digest()
