"""Sets and anchors by turns."""

from __future__ import annotations

import numpy as np

from zoo_search.partitions.solvers.medoids import reseed
from zoo_search.partitions.solvers.random_partition import random_states
from zoo_search.partitions.solvers.restarts import restart_seeds


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
