"""Which images make up which step: pure arithmetic, the same on every worker.

A step's images do not depend on the number of workers: each takes its share of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
"""Positions of images in their source, [N]."""


def steps_of(order: Ints, batch_size: int, *, even: bool = False) -> list[Ints]:
    """Cut the order of an epoch into steps of nearly ``batch_size`` images.

    With ``even`` (Mixup pairs images), one image of each odd step is left out. No step has a single
    image, which batch norms have no statistics of, unless there is no other.
    """
    count = min(round(len(order) / batch_size), len(order) // 2)
    parts = np.array_split(order, max(1, count))
    return [part[: len(part) // 2 * 2] for part in parts if len(part) > 1] if even else parts


def share(size: int, rank: int, workers: int) -> Ints:
    """Return the places in a step of ``size`` images that a worker takes, ascending.

    A place and its mirror image go to the same worker: Mixup and CutMix, which pair an image with
    its mirror image in the batch, then pair the same images on any number of workers.
    """
    places = np.arange(size)
    return np.flatnonzero(np.minimum(places, size - 1 - places) % workers == rank)


def shuffled(count: int, draw: np.random.Generator, groups: Sequence[Ints] | None = None) -> Ints:
    """Return ``0 … count-1`` in a random order.

    With ``groups``, positions that are dear to read apart (a row group of a Parquet file), groups
    come in random order and are shuffled within windows of :data:`WINDOW` images, so that what is
    read once serves images that are near each other in the order.
    """
    if groups is None:
        return draw.permutation(count)
    windows: list[Ints] = []
    held: list[Ints] = []
    for place in draw.permutation(len(groups)):
        held.append(groups[place])
        if sum(map(len, held)) >= WINDOW:
            windows.append(draw.permutation(np.concatenate(held)))
            held = []
    if held:
        windows.append(draw.permutation(np.concatenate(held)))
    return np.concatenate(windows)


WINDOW = 2048
"""Images that are shuffled among each other where groups of them are read together."""
