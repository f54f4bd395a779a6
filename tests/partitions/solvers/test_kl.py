"""The paper's layer swaps."""

from __future__ import annotations

import numpy as np

from zoo_search.partitions.solvers import kl
from zoo_search.partitions.solvers.random_partition import random_states
from zoo_search.partitions.solvers.restarts import restart_seeds


def test_no_swap_of_one_node_helps_after_swapping(random_problem):
    """DeRy Eqs. 6 and 7, checked boundary by boundary with plain loops."""
    problem = random_problem([9, 14, 11], k=4, eps=0.5)
    state = random_states(problem, restart_seeds(1, 12))
    anchors = state.anchor_blocks()
    starts, stops = anchors.start, anchors.stop
    cuts = kl.swap(problem, state.cuts, state.sets, anchors)
    limits = [(1 + 0.5) * depth / 4 for depth in problem.depths]

    def objective(row, n, bounds):
        total = 0.0
        for stage in range(4):
            j = state.sets[row, n * 4 + stage]
            total += problem.values[bounds[stage], starts[row, j]]
            total += problem.values[bounds[stage + 1], stops[row, j]]
        return total

    for row in range(12):
        for n in range(3):
            now = objective(row, n, cuts[row, n])
            assert now >= objective(row, n, state.cuts[row, n])
            for stage in (1, 2, 3):
                for shift in (-1, 1):
                    other = cuts[row, n].copy()
                    other[stage] += shift
                    widths = np.diff(other)
                    if widths.min() >= 1 and widths.max() < limits[n]:
                        assert objective(row, n, other) <= now
