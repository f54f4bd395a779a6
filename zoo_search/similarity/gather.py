"""Decoded images, in batches of fixed sample ids, as objects in Ray's store.

Images come in windows: as many batches as fit a number of bytes. Ray Data decodes one window, in
any order; one small task a batch picks the batch's rows out of the blocks that hold them. No image
passes through the driver, and a window is released with the last reference to its batches. This
module imports no torch: the tasks are short, and torch takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zoo_search.data.base import Subset

__all__ = ["ImageBatch", "View", "gather_batches", "image_bytes", "windows_of"]


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


def image_bytes(view: View) -> int:
    """Return the bytes of one decoded image."""
    return 3 * view.size[0] * view.size[1]


def windows_of(sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut ``0 .. len(sizes)`` into runs whose sizes sum up to the budget at most, or of one."""
    run: list[int] = []
    used = 0
    for index, size in enumerate(sizes):
        if run and used + size > budget:
            yield run
            run, used = [], 0
        run.append(index)
        used += size
    if run:
        yield run


def gather_batches(
    subset: Subset,
    batches: Sequence[Sequence[str]],
    view: View,
    indices: Sequence[int],
    reader: Any = None,
) -> list[ImageBatch]:
    """Decode some batches of a subset: uint8 ``[n, 3, H, W]`` each, in Ray's store.

    Args:
        subset: The images.
        batches: Sample ids of all batches.
        view: How to decode.
        indices: The batches that are wanted.
        reader: Reference to the subset's reader, shared by all windows.
    """
    import ray

    from zoo_search.data.rays import count_bad, rows

    count_bad(subset)  # one count for all windows
    wanted = [name for index in indices for name in batches[index]]
    label = dict(zip(subset.ids, subset.labels.tolist(), strict=True))
    labels = np.asarray([label[name] for name in wanted], dtype=np.int64)
    part = replace(subset, ids=wanted, labels=labels)
    data = rows(part, view.size, view.interpolation, view.crop_pct, reader)
    blocks = data.to_arrow_refs()
    ids_of = ray.remote(_ids_of)
    held: list[list[str]] = ray.get([ids_of.remote(block) for block in blocks])
    place = {name: (b, row) for b, names in enumerate(held) for row, name in enumerate(names)}
    collect = ray.remote(_collect)
    out = []
    for index in indices:
        ids = [name for name in batches[index] if name in place]
        used = sorted({place[name][0] for name in ids})
        order = {block: i for i, block in enumerate(used)}
        at = [(order[place[name][0]], place[name][1]) for name in ids]
        images = collect.remote(at, view.size, *(blocks[block] for block in used))
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
