"""The best anchor of each set, against sums by plain loops; few models and many."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_search.partitions.problem.lattice import Blocks
from zoo_search.partitions.solvers.medoids import best_anchors
from zoo_search.partitions.solvers.random_partition import random_states
from zoo_search.partitions.solvers.restarts import restart_seeds


def summed(problem, starts, stops, members, block):
    """The similarity of a block with all members of its set."""
    return sum(
        problem.values[starts[m], starts[block]] + problem.values[stops[m], stops[block]]
        for m in members
    )


@pytest.mark.parametrize(("depths", "thorough"), [([6, 9, 7], False), ([6, 9, 7] * 16, True)])
def test_an_anchor_is_the_most_central_block_of_its_set(random_problem, depths, thorough):
    problem = random_problem(depths, k=3, eps=0.7, levels=4)
    state = random_states(problem, restart_seeds(0, 3))
    found = best_anchors(problem, state.cuts, state.sets, state.anchors, thorough)
    blocks = Blocks.of(state.cuts)
    starts, stops = blocks.start, blocks.stop
    for row in range(3):
        for j in range(3):
            members = np.flatnonzero(state.sets[row] == j)
            sums = {b: summed(problem, starts[row], stops[row], members, b) for b in members}
            anchor, current = found[row, j], state.anchors[row, j]
            assert sums[anchor] == max(sums.values())
            if sums[current] == max(sums.values()):
                assert anchor == current  # it stays where none is strictly better


def test_with_many_models_a_sample_proposes_and_the_whole_set_decides(random_problem):
    """Never worse than the anchor at hand, and of the proposed ones the best of the whole set."""
    problem = random_problem([6, 9, 7, 11] * 12, k=3, eps=0.7)
    state = random_states(problem, restart_seeds(1, 3))
    found = best_anchors(problem, state.cuts, state.sets, state.anchors)
    blocks = Blocks.of(state.cuts)
    starts, stops = blocks.start, blocks.stop
    places = []
    for row in range(3):
        for j in range(3):
            members = np.flatnonzero(state.sets[row] == j)
            sums = {b: summed(problem, starts[row], stops[row], members, b) for b in members}
            assert found[row, j] in members
            assert sums[found[row, j]] >= sums[state.anchors[row, j]]
            places.append(sorted(sums.values(), reverse=True).index(sums[found[row, j]]))
    assert max(places) <= 2  # of some 48 blocks, on values without any structure
