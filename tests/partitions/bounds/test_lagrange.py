"""The Lagrangian bound against a brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_search.partitions.api import partition
from zoo_search.partitions.bounds.lagrange import lagrangian_bound, quick_bound
from zoo_search.partitions.bounds.simple import upper_bound
from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.problem.limits import smallest_eps
from zoo_search.partitions.search import find_restarts
from zoo_search.partitions.solvers.restarts import restart_seeds


@st.composite
def small_problems(draw):
    """Problems that can be enumerated: ties, zeros, negative values, K = 1, K = L, one model."""
    depths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    k = draw(st.integers(1, min(*depths, 3, 4)))
    sizes = [draw(st.lists(st.integers(1, 9), min_size=d, max_size=d)) for d in depths]
    slack = draw(st.sampled_from([0.0, 0.2, 1.0]))
    return {
        "depths": depths,
        "k": k,
        "sizes": sizes,
        "eps": round(max(max(smallest_eps(s, k) for s in sizes), 0.0) + slack, 3) + 0.001,
        "seed": draw(st.integers(0, 10**6)),
        "levels": draw(st.sampled_from([None, 1, 3])),
        "symmetric": draw(st.booleans()),
        "one_per_set": draw(st.booleans()),
    }


@settings(deadline=None, max_examples=60)
@given(small_problems())
def test_brute_force_lies_between_the_answer_and_the_bound(random_problem, brute, arguments):
    problem = random_problem(**arguments)
    oracle = brute(problem)
    if oracle.size() > 20_000:
        return
    best = oracle.best()
    found = find_restarts(problem, "exact", restart_seeds(0, 5))
    objective = float(found.objectives.max())
    simple = upper_bound(problem)
    for target in (objective, best - 1.0, best):
        tight = lagrangian_bound(problem, target, 0.05).value
        assert objective <= best <= tight <= simple


@settings(deadline=None, max_examples=25)
@given(small_problems(), st.integers(0, 10**6))
def test_enough_restarts_reach_brute_force(random_problem, brute, arguments, seed):
    problem = random_problem(**arguments)
    oracle = brute(problem)
    if oracle.size() > 20_000:
        return
    best, reached = oracle.best(), -np.inf
    for low in range(0, 400, 40):
        seeds = restart_seeds(seed, 400)[low : low + 40]
        found = find_restarts(problem, "exact", seeds)
        reached = max(reached, float(found.objectives.max()))
        assert reached <= best
        if reached == best:
            return
    assert reached == best


@pytest.mark.parametrize("one_per_set", [False, True])
def test_a_table_like_that_of_a_zoo_is_solved_and_proved(zoo_table, one_per_set):
    problem = from_table(zoo_table([8, 16, 12, 20, 33, 24, 17, 28]), one_per_set=one_per_set)
    found = find_restarts(problem, "exact", restart_seeds(0, 40))
    best = float(found.objectives.max())
    told = []
    bound = lagrangian_bound(problem, best, 60.0, lambda spent, value: told.append((spent, value)))
    assert bound.settled
    assert best <= bound.value <= best * 1.001 < upper_bound(problem)
    assert [value for _, value in told] == sorted((v for _, v in told), reverse=True)
    assert len(told) == bound.steps


def test_the_bound_holds_whatever_the_scale(random_problem, random_table):
    """Large similarities coarsen the grid that sums are exact on; the bound must still hold."""
    from zoo_search.similarities.table import SimilarityTable

    table = random_table([6, 7, 8], 3)
    large = SimilarityTable(table.models, table.values * 1e6)
    problem = from_table(large, k=3, eps=0.6)
    found = find_restarts(problem, "exact", restart_seeds(0, 30))
    bound = lagrangian_bound(problem, float(found.objectives.max()), 2.0)
    assert found.objectives.max() <= bound.value <= upper_bound(problem)


def test_the_answer_does_not_depend_on_the_certificate(zoo_table):
    table = zoo_table([8, 16, 12, 20])
    plain = partition(table, restarts=20)
    proved = partition(table, restarts=20, certify=20.0)
    assert plain.blocks == proved.blocks
    assert plain.restarts == proved.restarts
    assert 0 <= proved.gap < 1e-3
    assert plain == partition(table, restarts=20)
    best = from_table(table)
    assert proved.objective <= plain.upper_bound < upper_bound(best)


def test_a_large_zoo_gets_the_simple_bound_at_once(random_problem):
    problem = random_problem([16, 20, 24] * 40, k=4, eps=0.2)
    assert quick_bound(problem, 0.0) == upper_bound(problem)
