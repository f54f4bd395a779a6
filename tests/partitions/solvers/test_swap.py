"""The swap search over anchors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.problem.lattice import Blocks
from zoo_search.partitions.search import find_restarts
from zoo_search.partitions.solvers import exact
from zoo_search.partitions.solvers.polish import swap_search
from zoo_search.partitions.solvers.random_partition import random_states
from zoo_search.partitions.solvers.restarts import restart_seeds, run_restarts

SMALL = [
    ([4, 5, 3], 2, 1.0),
    ([5, 6], 3, 0.6),
    ([4, 6], 4, 1.5),
    ([7], 3, 0.5),
    ([3, 5, 2], 1, 0.5),
]


def global_anchors(problem, chosen):
    blocks = np.array(chosen)
    first = problem.offsets[blocks[..., 0]]
    return Blocks((first + blocks[..., 1])[None], (first + blocks[..., 2])[None])


def pairs_of(blocks):
    return list(zip(blocks.start, blocks.stop, strict=True))


@pytest.mark.parametrize("one_per_set", [False, True])
@pytest.mark.parametrize(("depths", "k", "eps"), SMALL)
def test_the_value_of_anchors_is_that_of_brute_force(
    random_problem, brute, depths, k, eps, one_per_set
):
    rng = np.random.default_rng(0)
    for seed in range(3):
        problem = random_problem(
            depths, k=k, eps=eps, seed=seed, levels=3 if seed else None, symmetric=seed < 2,
            one_per_set=one_per_set,
        )  # fmt: skip
        oracle = brute(problem)
        blocks = sorted({b for options in oracle.partitions for p in options for b in p})
        found = {(int(a), int(b)) for a, b in pairs_of(problem.blocks)}
        assert found == {
            (int(problem.offsets[n]) + a, int(problem.offsets[n]) + b) for n, a, b in blocks
        }
        every = list(itertools.combinations(blocks, k))
        for index in rng.integers(0, len(every), 25):
            chosen = every[index]
            expected = 0.0
            for options in oracle.partitions:
                held = [
                    option
                    for option in options
                    if {a for a in chosen if a[0] == option[0][0]} <= set(option)
                ]
                values = [oracle.model_value(option, chosen, True) for option in held]
                expected += max(values, default=-np.inf)
            assert exact.anchored_values(problem, global_anchors(problem, chosen))[0] == expected


@pytest.mark.parametrize("one_per_set", [False, True])
def test_no_swap_of_one_anchor_helps_in_the_end(random_problem, one_per_set):
    problem = random_problem([6, 7, 5, 9], k=3, eps=0.6, levels=6, one_per_set=one_per_set)
    start = random_states(problem, restart_seeds(4, 6))
    local, _ = exact.climb(problem, start)
    blocks = pairs_of(problem.blocks)
    for row in range(6):
        before = local.take(np.array([row]))
        after, swaps = swap_search(problem, before)
        assert after.objective[0] >= before.objective[0]
        assert (swaps == 0) == (after.objective[0] == before.objective[0])
        anchors = after.anchor_blocks()
        starts, stops = anchors.start, anchors.stop
        for place in range(3):
            for start_cut, stop_cut in blocks:
                first, last = starts.copy(), stops.copy()
                first[0, place], last[0, place] = start_cut, stop_cut
                if len(set(zip(first[0].tolist(), last[0].tolist(), strict=True))) == 3:
                    value = exact.anchored_values(problem, Blocks(first, last))[0]
                    assert value <= after.objective[0]


def test_swapping_mends_a_bad_local_optimum(zoo_table):
    problem = from_table(zoo_table([8, 16, 12, 20, 33, 24, 17, 28], seed=5))
    found = run_restarts(problem, "exact", restart_seeds(1, 80))
    worst = found.seeds[[int(found.objectives.argmin())]]
    alone = run_restarts(problem, "exact", worst)
    assert alone.objectives[0] < found.objectives.max()
    assert find_restarts(problem, "exact", worst).objectives[0] > alone.objectives[0]
