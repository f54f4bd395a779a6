"""What a search gives: every constraint holds, and clear structure is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_search.partitions.bounds.simple import upper_bound
from zoo_search.partitions.check import check
from zoo_search.partitions.problem.limits import smallest_eps
from zoo_search.partitions.search import finish
from zoo_search.partitions.solvers.restarts import METHODS, restart_seeds, run_restarts


@st.composite
def problems(draw):
    """Arguments of random problems: ties, zeros, negative values, K = 1, K = L, one model."""
    depths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=5))
    k = draw(st.integers(1, min(min(depths), 6)))
    sizes = [draw(st.lists(st.integers(0, 9), min_size=d, max_size=d)) for d in depths]
    sizes = [[1] * len(s) if sum(s) == 0 else s for s in sizes]
    slack = draw(st.sampled_from([0.0, 0.1, 0.5, 2.0]))
    eps = round(max(smallest_eps(s, k) for s in sizes) + slack, 4)
    return {
        "depths": depths,
        "k": k,
        "sizes": sizes,
        "eps": max(eps, 0.0),
        "seed": draw(st.integers(0, 10**6)),
        "levels": draw(st.sampled_from([None, 1, 2, 5])),
        "symmetric": draw(st.booleans()),
        "one_per_set": draw(st.booleans()),
    }


@settings(deadline=None, max_examples=120)
@given(problems(), st.sampled_from(sorted(METHODS)), st.integers(1, 12))
def test_every_constraint_holds_on_random_tables(random_problem, arguments, method, restarts):
    problem = random_problem(**arguments)
    found = run_restarts(problem, method, restart_seeds(arguments["seed"], restarts))
    result = finish(problem, method, found)
    check(problem, result)
    assert result.objective == found.objectives.max()
    assert result.upper_bound == upper_bound(problem) >= result.objective


@settings(deadline=None, max_examples=40)
@given(problems(), st.sampled_from(sorted(METHODS)))
def test_a_restart_does_not_depend_on_its_company(random_problem, arguments, method):
    problem = random_problem(**arguments)
    seeds = restart_seeds(arguments["seed"], 9)
    together = run_restarts(problem, method, seeds)
    for index in (0, 4, 8):
        alone = run_restarts(problem, method, seeds[index : index + 1])
        assert alone.objectives[0] == together.objectives[index]
        assert alone.iterations[0] == together.iterations[index]


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("one_per_set", [False, True])
def test_shapes_at_the_edges(random_problem, method, one_per_set):
    for depths, k, eps in [
        ([5, 5], 5, 0.1),  # K = L
        ([5, 9], 1, 0.1),  # K = 1
        ([8], 4, 0.1),  # one model
        ([4, 120], 4, 0.2),  # very different depths
        ([7, 8, 11, 12] * 25, 4, 0.2),  # 100 models
        ([1], 1, 0.1),
    ]:
        problem = random_problem(depths, k=k, eps=eps, one_per_set=one_per_set)
        result = finish(problem, method, run_restarts(problem, method, restart_seeds(0, 3)))
        check(problem, result)
        if len(depths) == 1:
            assert result.objective == result.upper_bound == 2 * k


@pytest.mark.parametrize("method", ["exact", "kl"])
def test_ten_sets_of_different_blocks(random_problem, method):
    problem = random_problem([14, 17], k=10, eps=1.0, one_per_set=True)
    found = run_restarts(problem, method, restart_seeds(0, 4))
    check(problem, finish(problem, method, found))


def test_exact_is_ahead_of_kl_and_of_random_on_a_zoo_like_table(zoo_table):
    from zoo_search.partitions.problem.definition import from_table

    problem = from_table(zoo_table([8, 16, 12, 20, 33, 24, 17, 28]), k=4, eps=0.2)
    seeds = restart_seeds(0, 60)
    runs = {method: run_restarts(problem, method, seeds).objectives for method in METHODS}
    assert runs["exact"].mean() > runs["kl"].mean() > runs["random"].mean()
    assert runs["exact"].max() >= runs["kl"].max() >= runs["random"].max()


def test_a_clear_structure_is_found(zoo_table):
    """Models that are the same get the same cuts, and their blocks of one stage one set."""
    from zoo_search.partitions.api import partition
    from zoo_search.similarities.table import SimilarityTable

    one = zoo_table([12])
    values = np.tile(one.values, (3, 3)) * 0.9 + 0.1 * np.eye(39)
    table = SimilarityTable(dict.fromkeys("abc", one.models["m0"]), values)
    found = partition(table, k=4, restarts=40)
    assert all(block.set == block.stage for block in found.blocks)
    cuts = {name: [b.start for b in found.blocks if b.model == name] for name in "abc"}
    assert cuts["a"] == cuts["b"] == cuts["c"]
    assert found.objective == pytest.approx(4 * 2 + 8 * 1.8, abs=1e-6)
