"""The dynamic program against a brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_problems import SMALL

from zoo_search.partitions.problem.lattice import Blocks
from zoo_search.partitions.solvers import exact
from zoo_search.partitions.solvers.medoids import cluster_blocks
from zoo_search.partitions.solvers.random_partition import random_states
from zoo_search.partitions.solvers.restarts import restart_seeds


def pack(problem, anchors):
    """The blocks, [R, K], of anchors given as (model, start, stop)."""
    blocks = np.array(anchors)
    first = problem.offsets[blocks[..., 0]]
    return Blocks(first + blocks[..., 1], first + blocks[..., 2])


def local_blocks(problem, cuts):
    return [
        tuple((n, int(a - o), int(b - o)) for a, b in itertools.pairwise(row))
        for n, (row, o) in enumerate(zip(cuts, problem.offsets, strict=True))
    ]


@pytest.mark.parametrize("one_per_set", [False, True])
@pytest.mark.parametrize(("depths", "k", "eps", "sizes"), SMALL)
def test_the_cuts_are_the_best_for_any_anchors(
    random_problem, brute, depths, k, eps, sizes, one_per_set
):
    rng = np.random.default_rng(1)
    for seed in range(4):
        problem = random_problem(
            depths, k=k, eps=eps, seed=seed, levels=4 if seed % 2 else None, sizes=sizes,
            symmetric=seed < 2, one_per_set=one_per_set,
        )  # fmt: skip
        oracle = brute(problem)
        every = sorted({b for options in oracle.partitions for blocks in options for b in blocks})
        anchors = [[every[i] for i in rng.integers(0, len(every), k)] for _ in range(6)]
        cuts = exact.best_cuts(problem, pack(problem, anchors), keep=False)
        for row, chosen in zip(cuts, anchors, strict=True):
            for blocks, options in zip(local_blocks(problem, row), oracle.partitions, strict=True):
                assert blocks in options
                best = max(oracle.model_value(option, chosen, False) for option in options)
                assert oracle.model_value(blocks, chosen, False) == best


@pytest.mark.parametrize("one_per_set", [False, True])
@pytest.mark.parametrize(("depths", "k", "eps", "sizes"), SMALL)
def test_kept_anchors_stay_blocks_and_the_rest_is_the_best(
    random_problem, brute, depths, k, eps, sizes, one_per_set
):
    problem = random_problem(depths, k=k, eps=eps, sizes=sizes, one_per_set=one_per_set)
    oracle = brute(problem)
    state = random_states(problem, restart_seeds(3, 10))
    anchors = state.anchor_blocks()
    cuts = exact.best_cuts(problem, anchors, keep=True)
    for row, s, e in zip(cuts, anchors.start, anchors.stop, strict=True):
        models = problem.cut_model[s]
        chosen = [
            (int(m), int(a - problem.offsets[m]), int(b - problem.offsets[m]))
            for m, a, b in zip(models, s, e, strict=True)
        ]
        for n, blocks in enumerate(local_blocks(problem, row)):
            own = [anchor for anchor in chosen if anchor[0] == n]
            assert set(own) <= set(blocks)
            options = [o for o in oracle.partitions[n] if set(own) <= set(o)]
            best = max(oracle.model_value(option, chosen, True) for option in options)
            assert oracle.model_value(blocks, chosen, True) == best


def test_the_objective_never_decreases(random_problem):
    problem = random_problem([9, 14, 11, 8], k=4, eps=0.5, levels=3)
    state = random_states(problem, restart_seeds(0, 64))
    start = cluster_blocks(problem, state.cuts, state.anchors)
    found, iterations = exact.climb(problem, start)
    assert (found.objective >= start.objective).all()
    assert (iterations >= 1).all()
    again, more = exact.climb(problem, found)
    assert (more == 1).all()
    np.testing.assert_array_equal(again.cuts, found.cuts)
    np.testing.assert_array_equal(again.sets, found.sets)
