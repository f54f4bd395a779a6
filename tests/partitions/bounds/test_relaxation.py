"""The relaxation: an upper bound for any prices, and its slope is a subgradient."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_search.partitions.bounds.relaxation import Relaxation


@pytest.mark.parametrize("one_per_set", [False, True])
def test_any_prices_give_an_upper_bound_and_a_subgradient(random_problem, brute, one_per_set):
    """Convex: L(q) >= L(p) + slope(p) · (q - p) for every two vectors of prices."""
    problem = random_problem([4, 5, 3], k=2, eps=1.0, seed=1, one_per_set=one_per_set)
    best = brute(problem).best()
    relaxation, rng = Relaxation(problem), np.random.default_rng(0)
    first = relaxation.first_prices()
    drawn = [
        first,
        *(relaxation.on_grid(first + rng.normal(0, spread, len(first))) for spread in (0.1, 1, 3)),
    ]
    found = [relaxation.evaluate(prices) for prices in drawn]
    for value, _ in found:
        assert value >= best
    for p, (value, slope) in zip(drawn, found, strict=True):
        for q, (other, _) in zip(drawn, found, strict=True):
            assert other >= value + slope @ (q - p) - 1e-9


def test_prices_stay_on_the_grid_on_which_sums_are_exact(random_problem):
    problem = random_problem([4, 5, 3], k=2)
    relaxation = Relaxation(problem)
    prices = relaxation.on_grid(np.array([0.1, -0.7, 1e9, -1e9]))
    assert (prices / problem.quantum == np.round(prices / problem.quantum)).all()
    assert np.abs(prices[:2] - [0.1, -0.7]).max() <= problem.quantum
    assert np.abs(prices).max() < 10
