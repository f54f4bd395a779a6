"""Decoded images, in batches of fixed sample ids, as objects in Ray's store.

Images come in windows: as many batches as fit a number of bytes. Ray Data decodes window after
window; one small task a batch picks the batch's rows out of the blocks that hold them. No image
passes through the driver, and a window is released with the last reference to its batches. This
module imports no torch: the tasks are short, and torch takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zoo_search.data.view import View

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.data.block import Block

    from zoo_search.data.base import Subset


@dataclass(frozen=True)
class ImageBatch:
    """One batch: its sample ids (those that could be decoded) and a reference to its images."""

    index: int
    ids: list[str]
    images: ObjectRef[npt.NDArray[np.uint8]]


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


def image_batches(
    subset: Subset,
    batches: Sequence[Sequence[str]],
    view: View,
    windows: Sequence[Sequence[int]],
    cpus: int,
) -> Iterator[list[ImageBatch]]:
    """Decode some batches of a subset, window by window: uint8 ``[n, 3, H, W]`` each.

    One run of Ray Data decodes all windows in order; it waits while what it has decoded ahead of
    the caller is as large as a window.

    Args:
        subset: The images.
        batches: Sample ids of all batches.
        view: How to decode.
        windows: The batches that are wanted, by index; each window is yielded as a whole.
        cpus: How many of the cluster's CPUs may decode at once.
    """
    import ray

    from zoo_search.data.on_ray import rows_of

    wanted = [[name for index in window for name in batches[index]] for window in windows]
    groups = [group for names in wanted for group in subset.reader.groups(names)]
    data = rows_of(subset, view, groups)
    options = data.context.execution_options
    options.preserve_order = True
    most = max(map(len, wanted), default=0) * view.nbytes
    options.resource_limits = options.resource_limits.copy(cpu=cpus, object_store_memory=most)
    ids_of = ray.remote(_ids_of)
    window_of = {name: number for number, names in enumerate(wanted) for name in names}
    blocks: list[tuple[ObjectRef[Block], list[str]]] = []
    at = 0
    for bundle in data.iter_internal_ref_bundles():
        for ref in bundle.block_refs:
            ids: list[str] = ray.get(ids_of.remote(ref))
            while ids and window_of[ids[0]] > at:
                yield _window(batches, windows[at], view, blocks)
                blocks, at = [], at + 1
            blocks.append((ref, ids))
    for window in windows[at:]:
        yield _window(batches, window, view, blocks)
        blocks = []


def _window(
    batches: Sequence[Sequence[str]],
    window: Sequence[int],
    view: View,
    blocks: Sequence[tuple[ObjectRef[Block], list[str]]],
) -> list[ImageBatch]:
    """Have the batches of a window picked out of the blocks that hold its images."""
    import ray

    collect = ray.remote(_collect)
    place = {name: (b, row) for b, (_, ids) in enumerate(blocks) for row, name in enumerate(ids)}
    out = []
    for index in window:
        ids = [name for name in batches[index] if name in place]
        used = sorted({place[name][0] for name in ids})
        order = {block: i for i, block in enumerate(used)}
        at = [(order[place[name][0]], place[name][1]) for name in ids]
        images = collect.remote(at, view.size, *(blocks[block][0] for block in used))
        out.append(ImageBatch(index, ids, images))
    return out


def _ids_of(block: Block) -> list[str]:
    return list(block["id"].to_pylist())


def _collect(
    rows: Sequence[tuple[int, int]], size: tuple[int, int], *blocks: Block
) -> npt.NDArray[np.uint8]:
    """Return the images at ``(block, row)``, in that order."""
    from ray.data.block import BlockAccessor

    out = np.empty((len(rows), 3, *size), dtype=np.uint8)
    for number, block in enumerate(blocks):
        images = np.asarray(BlockAccessor.for_block(block).to_numpy("image"))
        for i, (which, row) in enumerate(rows):
            if which == number:
                out[i] = images[row]
    return out
