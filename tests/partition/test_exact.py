from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo_search.partition import exact
from zoo_search.partition.bound import upper_bound
from zoo_search.partition.clustering import cluster, reseed
from zoo_search.partition.random_partition import random_cuts, random_states
from zoo_search.partition.restarts import restart_seeds, run_restarts

SMALL = [
    # depths, k, eps, sizes
    ([4, 5, 3], 2, 1.0, None),
    ([5, 6], 3, 0.6, None),
    ([5, 4, 6], 3, 0.9, None),
    ([4, 6], 4, 1.5, None),
    ([6, 3], 3, 1.4, [[3, 1, 4, 1, 5, 2], [2, 7, 1]]),
    ([7], 3, 0.5, None),
    ([3, 5, 2, 4], 1, 0.5, None),
]


def pack(problem, anchors):
    """Global start and stop cuts, each [R, K], of anchors given as (model, start, stop)."""
    blocks = np.array(anchors)
    first = problem.offsets[blocks[..., 0]]
    return first + blocks[..., 1], first + blocks[..., 2]


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
        cuts = exact.best_cuts(problem, *pack(problem, anchors), keep=False)
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
    starts, stops = state.anchor_blocks()
    cuts = exact.best_cuts(problem, starts, stops, keep=True)
    for row, s, e in zip(cuts, starts, stops, strict=True):
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


@pytest.mark.parametrize("one_per_set", [False, True])
@pytest.mark.parametrize(("depths", "k", "eps", "sizes"), SMALL)
def test_brute_force_lies_between_the_answer_and_the_bound(
    random_problem, brute, depths, k, eps, sizes, one_per_set
):
    for seed in range(3):
        problem = random_problem(
            depths, k=k, eps=eps, seed=seed, levels=5 if seed == 1 else None, sizes=sizes,
            symmetric=seed != 2, one_per_set=one_per_set,
        )  # fmt: skip
        oracle = brute(problem)
        if oracle.size() > 60_000:
            pytest.skip("too large to enumerate")
        best = oracle.best()
        bound = upper_bound(problem)
        assert bound >= best
        seeds = restart_seeds(seed, 3000)
        reached = -np.inf
        for low in range(0, len(seeds), 200):
            found = run_restarts(problem, "exact", seeds[low : low + 200]).objectives.max()
            reached = max(reached, found)
            if reached >= best:
                break
        assert reached == best
        for method in ("kl", "random"):
            assert run_restarts(problem, method, seeds[:100]).objectives.max() <= best


def test_the_objective_never_decreases(random_problem):
    problem = random_problem([9, 14, 11, 8], k=4, eps=0.5, levels=3)
    state = random_states(problem, restart_seeds(0, 64))
    start = cluster(problem, state.cuts, state.anchors)
    found, iterations = exact.climb(problem, start)
    assert (found.objective >= start.objective).all()
    assert (iterations >= 1).all()
    again, more = exact.climb(problem, found)
    assert (more == 1).all()
    np.testing.assert_array_equal(again.cuts, found.cuts)
    np.testing.assert_array_equal(again.sets, found.sets)


def test_an_empty_set_is_seeded_with_the_worst_served_block(random_problem):
    problem = random_problem([6, 6, 6], k=3, eps=0.5)
    state = random_states(problem, restart_seeds(0, 1))
    sets = np.zeros_like(state.sets)
    sets[0, 1] = 2
    anchors = np.array([[0, 0, 1]])
    fixed, centres = reseed(problem, state.cuts, sets, anchors)
    starts, stops = state.cuts[:, :, :-1].ravel(), state.cuts[:, :, 1:].ravel()
    fit = problem.values[starts, starts[0]] + problem.values[stops, stops[0]]
    others = [b for b in range(9) if b not in (0, 1)]
    worst = min(others, key=lambda b: fit[b])
    assert fixed[0].tolist() == [0, 2] + [1 if b == worst else 0 for b in range(2, 9)]
    assert centres[0, 1] == worst
    assert centres[0, 2] == 1
    assert sets[0].sum() == 2  # the argument is left as it was


def test_random_cuts_are_uniform_over_the_feasible_partitions(random_problem, brute):
    problem = random_problem([9, 12], k=4, eps=0.5)
    options = brute(problem).partitions
    draws = np.random.default_rng(0).random((20_000, 2, 4))
    cuts = random_cuts(problem, draws)
    for n in range(2):
        found = {}
        for row in cuts[:, n] - problem.offsets[n]:
            found[tuple(row)] = found.get(tuple(row), 0) + 1
        assert len(found) == len(options[n])
        expected = 20_000 / len(found)
        deviation = sum((count - expected) ** 2 / expected for count in found.values())
        assert deviation < len(found) + 5 * np.sqrt(2 * len(found))  # chi squared, 5 sigma
