"""Random cuts."""

from __future__ import annotations

import numpy as np

from zoo_search.partitions.solvers.random_partition import random_cuts


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
