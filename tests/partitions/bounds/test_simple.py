"""The simple bound against a brute force."""

from __future__ import annotations

import numpy as np
import pytest
from small_problems import SMALL

from zoo_search.partitions.bounds.simple import upper_bound
from zoo_search.partitions.solvers.restarts import restart_seeds, run_restarts


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
