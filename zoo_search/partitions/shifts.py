"""Blocks that begin or end at other cuts of the same set, beside those of a partition.

A partition cuts every model once for all, so that a joint between two models lies where both are
cut. Where the cut beside is about as similar to the anchor's, the joint might as well lie there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo_search.core.errors import UserError
from zoo_search.partitions.result import Partition, PartitionBlock

if TYPE_CHECKING:
    from zoo_search.similarities.table import SimilarityTable


def with_shifts(
    partition: Partition, table: SimilarityTable, nodes: int, tolerance: float
) -> Partition:
    """Return a partition with the blocks that each of its blocks may be moved to.

    The first block of a model begins at the image and the last one ends with the model, always;
    every other end moves by up to ``nodes`` nodes. A moved block stays where its similarity with
    the anchor of its set, S of DeRy Eq. 2, is below that of the block itself by ``tolerance`` at
    most. A block stands at one stage alone: one that is a block of the partition already is left
    out, and of two stages it goes to the one where it is more similar.

    Args:
        partition: Of the models of the table.
        table: The similarity table that it was made from.
        nodes: By how many nodes an end may move; 0: no blocks beside the partition's own.
        tolerance: Sums of two similarities, so from 0 to 2 for CKA.

    Raises:
        UserError: If ``nodes`` or ``tolerance`` is below 0.
    """
    if nodes < 0 or not tolerance >= 0:
        raise UserError(
            f"'partition.shift' is {nodes} and 'partition.tolerance' {tolerance:g}; they say by "
            "how many nodes a block's ends may move, and how much less similar it may then be: "
            "numbers from 0 up."
        )
    found: dict[tuple[str, int, int], PartitionBlock] = {}
    for block in partition.blocks:
        for moved in _moved(partition, table, block, nodes):
            place = (moved.model, moved.start, moved.stop)
            known = found.get(place)
            if moved.similarity >= block.similarity - tolerance and (
                known is None or moved.similarity > known.similarity
            ):
                found[place] = moved
    for block in partition.blocks:
        found.pop((block.model, block.start, block.stop), None)
    order = {block.model: place for place, block in enumerate(partition.blocks)}
    shifts = sorted(found.values(), key=lambda b: (order[b.model], b.stage, b.start, b.stop))
    return replace(partition, shifts=tuple(shifts))


def _moved(
    partition: Partition, table: SimilarityTable, block: PartitionBlock, nodes: int
) -> Iterator[PartitionBlock]:
    """Yield a block with its ends moved in every way, at its stage and in its set."""
    total = len(table.models[block.model].cuts) - 1
    anchor = partition.anchors[block.set]
    to_start = table.block(block.model, anchor.model)[:, anchor.start]
    to_stop = table.block(block.model, anchor.model)[:, anchor.stop]
    ends = range(-nodes, nodes + 1)
    starts = [0] if block.start == 0 else [block.start + by for by in ends]
    stops = [total] if block.stop == total else [block.stop + by for by in ends]
    for start, stop in itertools.product(starts, stops):
        inside = (start > 0 or block.start == 0) and (stop < total or block.stop == total)
        if inside and start < stop and (start, stop) != (block.start, block.stop):
            similarity = float(to_start[start]) + float(to_stop[stop])
            yield replace(block, start=start, stop=stop, similarity=similarity)
