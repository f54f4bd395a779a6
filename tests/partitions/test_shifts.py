"""Blocks that begin or end at other cuts of the same set."""

from __future__ import annotations

import pytest

from zoo_search.core.errors import UserError
from zoo_search.partitions.api import partition
from zoo_search.partitions.result import Partition
from zoo_search.partitions.shifts import with_shifts


@pytest.fixture(scope="module")
def table(zoo_table):
    return zoo_table([8, 12, 16])


@pytest.fixture(scope="module")
def own(table) -> Partition:
    return partition(table, k=4, restarts=20)


def by_hand(own: Partition, table, nodes: int, tolerance: float) -> dict[tuple, tuple[int, float]]:
    """Every stretch of nodes: at which stage it may stand, and how similar it is there."""
    found = {}
    mine = {(b.model, b.start, b.stop) for b in own.blocks}
    for block in own.blocks:
        total = len(table.models[block.model].cuts) - 1
        anchor = own.anchors[block.set]
        for start in range(total):
            for stop in range(start + 1, total + 1):
                near = abs(start - block.start) <= nodes and abs(stop - block.stop) <= nodes
                ends = (start == 0) == (block.start == 0), (stop == total) == (block.stop == total)
                similarity = table.value(block.model, start, anchor.model, anchor.start)
                similarity += table.value(block.model, stop, anchor.model, anchor.stop)
                place = (block.model, start, stop)
                close = similarity >= block.similarity - tolerance
                better = place not in found or similarity > found[place][1]
                if near and all(ends) and close and better and place not in mine:
                    found[place] = (block.stage, similarity)
    return found


@pytest.mark.parametrize(("nodes", "tolerance"), [(1, 0.05), (1, 0.5), (2, 0.2), (3, 2.0)])
def test_blocks_beside_those_of_the_partition(own, table, nodes, tolerance):
    found = with_shifts(own, table, nodes, tolerance)
    expected = by_hand(own, table, nodes, tolerance)
    assert {(b.model, b.start, b.stop): b.stage for b in found.shifts} == {
        place: stage for place, (stage, _) in expected.items()
    }
    for block in found.shifts:
        place = (block.model, block.start, block.stop)
        assert block.similarity == pytest.approx(expected[place][1])
        sets = {b.set for b in own.blocks if (b.model, b.stage) == (block.model, block.stage)}
        assert block.set in sets
    assert found.blocks == own.blocks


def test_none_without_room_and_more_with_more(own, table):
    assert with_shifts(own, table, 0, 2.0) == own
    counts = [len(with_shifts(own, table, 1, t).shifts) for t in (0.0, 0.1, 0.5, 2.0)]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    with pytest.raises(UserError, match=r"'partition\.shift' is -1"):
        with_shifts(own, table, -1, 0.1)
    with pytest.raises(UserError, match=r"'partition\.tolerance' nan"):
        with_shifts(own, table, 1, float("nan"))


def test_they_stand_in_the_file_where_there_are_any(own, table, tmp_path):
    found = partition(table, k=4, restarts=20, shift=1, tolerance=0.5)
    assert found == with_shifts(own, table, 1, 0.5)
    path = tmp_path / "partition.json"
    found.save(path)
    assert Partition.load(path) == found
    assert "shifts" not in own.to_dict()
