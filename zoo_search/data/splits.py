"""Seeded, stratified choices of images that do not depend on the order of the listing.

Every image has a rank: a hash of the seed and its id. A choice of n images of a class takes the n
of lowest rank. So choices are nested (1/20 lies within 1/10), the same on every machine, and an
image that joins a folder moves the others as little as possible.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

TEST_SHARE = 0.2
Ints = npt.NDArray[np.int64]


def choose(labels: Ints, rank: npt.NDArray[np.uint64], total: int) -> Ints:
    """Return the positions of a stratified choice of ``total`` images, in order of rank.

    First one image of each class, the largest classes first; the rest in proportion to the
    classes' sizes by Webster's method (the image in place p of a class of n has the priority
    (p + 1/2) / n), which makes a smaller choice part of every larger one. ``labels`` and ``rank``
    (:func:`zoo_search.core.identity.ranks`) are [N].
    """
    order, place, size = _within_class(labels, rank)
    priority = np.where(place == 0, -size.astype(np.float64), (place + 0.5) / size)
    first = np.lexsort((rank[order], priority))[:total]
    chosen = order[first]
    return chosen[np.argsort(rank[chosen], kind="stable")]


def how_many(count: int, fraction: float | None, limit: int | None) -> int:
    """Return the number of images that a fraction (at least one image) and a limit leave."""
    total = count if fraction is None else max(1, round(fraction * count))
    return total if limit is None else min(total, limit)


def split_off_test(
    labels: Ints, rank: npt.NDArray[np.uint64], per_class: int | None
) -> npt.NDArray[np.bool_]:
    """Return a mask of the images that go to the test split, class by class.

    With ``per_class`` exactly that many images of each class stay for training and the rest is
    test; else :data:`TEST_SHARE` of each class is test, at least one where the class has two.
    """
    order, place, size = _within_class(labels, rank)
    if per_class is None:
        held_out = np.minimum(np.maximum(1, np.rint(TEST_SHARE * size)), size - 1)
        keep = size - held_out
    else:
        keep = np.full(len(labels), per_class)
    test = np.zeros(len(labels), dtype=np.bool_)
    test[order[place >= keep]] = True
    return test


def deal(labels: Ints, rank: npt.NDArray[np.uint64], count: int) -> Ints:
    """Return the part, from 0 to ``count`` - 1, of each image; -1 for those in no part. [N].

    Images are dealt one by one, class by class and by rank, so that neither the parts nor a class
    in them differ by more than one image. The only image of a class is in no part.
    """
    order, _, size = _within_class(labels, rank)
    dealt = order[size > 1]
    part = np.full(len(labels), -1, dtype=np.int64)
    part[dealt] = np.arange(len(dealt)) % count
    return part


def _within_class(labels: Ints, rank: npt.NDArray[np.uint64]) -> tuple[Ints, Ints, Ints]:
    """Return positions by label and rank, each one's place in its class, the class's size."""
    order = np.lexsort((rank, labels)).astype(np.int64)
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, sizes)
    return order, place, np.repeat(sizes, sizes)
