"""Repair against every recipe that there is."""

from __future__ import annotations

import numpy as np

from zoo_search.costs import Budget, CostTable
from zoo_search.reassembly import Space
from zoo_search.reassembly.samplers.repair import Repair

LIMITS = {"max_params": 8e6, "max_macs": 6e7}


def test_repair_changes_as_few_blocks_as_can_be(zoo, partition):
    """The space of few recipes, two of whose models have blocks of one set."""
    space = Space(partition, CostTable(zoo, 4), Budget(**LIMITS))
    feasible = space.enumerate()
    repair, rng, taken = Repair(space), np.random.default_rng(0), {}
    for round_ in range(12):
        blocks = [options[rng.integers(len(options))] for options in space.stages]
        found = repair.nearest(blocks, taken, round_)
        free = [r for r in feasible if r.key not in taken]
        assert found in free
        changed = [sum(a != b for a, b in zip(r.blocks, blocks, strict=True)) for r in free]
        assert sum(a != b for a, b in zip(found.blocks, blocks, strict=True)) == min(changed)
        taken[found.key] = found
    assert repair.nearest(blocks, {r.key: r for r in feasible}, 0) is None
