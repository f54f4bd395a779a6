"""Decoded images, in batches of fixed sample ids, as objects in Ray's store.

Ray Data decodes in any order; one small task a batch picks the batch's rows out of the blocks
that hold them. No image passes through the driver. This module imports no torch: the tasks are
short, and torch takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zoo_search.data.base import Subset

__all__ = ["ImageBatch", "View", "gather_batches"]


@dataclass(frozen=True)
class View:
    """How images are decoded; models with the same view share the decoded images."""

    size: tuple[int, int]
    interpolation: str
    crop_pct: float


@dataclass(frozen=True)
class ImageBatch:
    """One batch: its sample ids (those that could be decoded) and a reference to its images."""

    index: int
    ids: list[str]
    images: Any


def gather_batches(
    subset: Subset, batches: Sequence[Sequence[str]], view: View
) -> list[ImageBatch]:
    """Decode a subset and return its batches, uint8 ``[n, 3, H, W]`` each, in Ray's store."""
    import ray

    data = subset.rows(view.size, view.interpolation, view.crop_pct)
    blocks = data.to_arrow_refs()
    ids_of = ray.remote(_ids_of)
    held: list[list[str]] = ray.get([ids_of.remote(block) for block in blocks])
    place = {name: (b, row) for b, names in enumerate(held) for row, name in enumerate(names)}
    collect = ray.remote(_collect)
    out = []
    for index, batch in enumerate(batches):
        ids = [name for name in batch if name in place]
        used = sorted({place[name][0] for name in ids})
        order = {block: i for i, block in enumerate(used)}
        rows = [(order[place[name][0]], place[name][1]) for name in ids]
        images = collect.remote(rows, view.size, *(blocks[block] for block in used))
        out.append(ImageBatch(index, ids, images))
    return out


def _ids_of(block: Any) -> list[str]:
    names: list[str] = block["id"].to_pylist()
    return names


def _collect(
    rows: Sequence[tuple[int, int]], size: tuple[int, int], *blocks: Any
) -> npt.NDArray[np.uint8]:
    """Return the images at ``(block, row)``, in that order."""
    from ray.data.block import BlockAccessor

    out = np.empty((len(rows), 3, *size), dtype=np.uint8)
    for number, block in enumerate(blocks):
        images: Any = BlockAccessor.for_block(block).to_numpy("image")
        for i, (which, row) in enumerate(rows):
            if which == number:
                out[i] = images[row]
    return out
