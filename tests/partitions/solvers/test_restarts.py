"""Restarts in shares: the union is what all of them give at once."""

from __future__ import annotations

import numpy as np

from zoo_search.partitions.solvers.restarts import merge, restart_seeds, run_restarts


def test_ties_go_to_the_smallest_seed(random_problem):
    problem = random_problem([8], k=4, eps=0.5)  # one model: every restart reaches 2 K
    seeds = restart_seeds(0, 30)
    shares = [run_restarts(problem, "exact", seeds[i : i + 7]) for i in range(0, 30, 7)]
    alone = run_restarts(problem, "exact", np.array([seeds.min()]))
    found = merge(reversed(shares))
    np.testing.assert_array_equal(found.best.cuts, alone.best.cuts)
