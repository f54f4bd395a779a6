"""The surrogate against ridge regression written out over explicit features, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo_search.networks import BlockRef
from zoo_search.reassembly.samplers.surrogate import (
    _NOISES,
    _SHARES,
    Penalty,
    Surrogate,
    choose_penalty,
)

STAGES = [[BlockRef(f"m{m}", s, s + 1) for m in range(3)] for s in range(4)]
BLOCKS = [block for blocks in STAGES for block in blocks]
PAIRS = [p for a, b in itertools.pairwise(STAGES) for p in itertools.product(a, b)]


@pytest.fixture(scope="module")
def recipes() -> list[tuple[BlockRef, ...]]:
    every = list(itertools.product(*STAGES))
    chosen = np.random.default_rng(0).choice(len(every), 25, replace=False)
    return [every[i] for i in chosen]


@pytest.fixture(scope="module")
def scores(recipes: list[tuple[BlockRef, ...]]) -> np.ndarray:
    rng = np.random.default_rng(1)
    weight = {item: rng.normal() for item in (*BLOCKS, *PAIRS)}
    return np.array(
        [sum(weight[i] for i in (*r, *itertools.pairwise(r))) + 0.1 * rng.normal() for r in recipes]
    )


def features(recipes: list[tuple[BlockRef, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """One column of zeros and ones a block, and one a pair."""
    singles = np.array([[float(b in r) for b in BLOCKS] for r in recipes])
    pairs = np.array([[float(p in list(itertools.pairwise(r))) for p in PAIRS] for r in recipes])
    return singles, pairs


def primal(
    recipes: list[tuple[BlockRef, ...]], y: np.ndarray, penalty: Penalty
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, the ridge weights and their posterior precision over the noise's."""
    singles, pairs = features(recipes)
    x = np.hstack([singles, pairs])
    prior = np.r_[np.full(len(BLOCKS), (1 - penalty.share) / 4),
                  np.full(len(PAIRS), penalty.share / 3)]  # fmt: skip
    precision = x.T @ x + np.diag(penalty.noise / prior)
    return x, np.linalg.solve(precision, x.T @ y), precision


def standardised(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean()) / scores.std()


@pytest.mark.parametrize("penalty", [Penalty(0.3, 0.1), Penalty(0.6, 1e-2)])
def test_the_mean_is_ridge_regression(recipes, scores, penalty):
    found = Surrogate(STAGES, recipes, scores, penalty).mean()
    _, expected, _ = primal(recipes, standardised(scores), penalty)
    ours = [found[part] for part in (*BLOCKS, *PAIRS)]
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_draws_have_mean_and_covariance_of_the_posterior(recipes, scores):
    penalty = Penalty(0.3, 0.3)
    surrogate, y = Surrogate(STAGES, recipes, scores, penalty), standardised(scores)
    x, mean, precision = primal(recipes, y, penalty)
    prior = np.r_[np.full(len(BLOCKS), 0.7 / 4), np.full(len(PAIRS), 0.3 / 3)]
    kernel = x @ np.diag(prior) @ x.T + penalty.noise * np.eye(len(y))
    scale = y @ np.linalg.solve(kernel, y) / len(y)  # of greatest likelihood
    expected = penalty.noise * scale * np.linalg.inv(precision)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(4000):
        drawn = surrogate.draw(rng)
        draws.append([drawn[part] for part in (*BLOCKS, *PAIRS)])
    error = 5 * np.sqrt(np.diag(expected) / len(draws))
    assert (np.abs(np.mean(draws, axis=0) - mean) < error).all()
    np.testing.assert_allclose(np.cov(np.array(draws).T), expected, atol=0.1 * expected.max())


def test_the_penalty_has_the_least_error_of_leaving_each_one_out(recipes, scores):
    y = standardised(scores)
    singles, pairs = features(recipes)
    errors = {}
    for share, noise in itertools.product(_SHARES, _NOISES):
        penalty = Penalty(max(share, 1e-12), noise)  # the primal form divides by it
        rows = []
        for out in range(len(y)):
            kept = [i for i in range(len(y)) if i != out]
            _, weights, _ = primal([recipes[i] for i in kept], y[kept], penalty)
            rows.append(np.hstack([singles, pairs])[out] @ weights - y[out])
        errors[share, noise] = float(np.square(rows).sum())
    chosen = choose_penalty(singles @ singles.T, pairs @ pairs.T, y)
    assert errors[chosen.share, chosen.noise] == pytest.approx(min(errors.values()), rel=1e-6)
    assert Surrogate(STAGES, recipes, scores).penalty == chosen
    assert chosen.share > 0  # the scores do have pairs in them


def test_equal_scores_are_no_trouble(recipes):
    found = Surrogate(STAGES, recipes, [2.0] * len(recipes)).mean()
    assert set(found.values()) == {0.0}
