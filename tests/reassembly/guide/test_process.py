"""The guide against dense formulas, scikit-learn's Gaussian processes, and numerical integrals."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.sparse import csr_array
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct

from zoo_search.reassembly.guide.process import Guide, Measured, Prior, _Data, _Fit, grid

END = 30
PRIOR = Prior((0.5, 0.5), own=0.3, noise=0.2, fade=0.8, tie=0.7)


@pytest.fixture(scope="module")
def features() -> list[csr_array]:
    rng = np.random.default_rng(0)
    return [csr_array(rng.normal(size=(12, width)) / width**0.5) for width in (3, 5)]


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    rng = np.random.default_rng(1)
    found = []
    for epochs, rows in ((4, range(8)), (15, range(0, 8, 2)), (END, (0, 4))):
        for row in rows:
            accuracy = float(rng.uniform(0.3, 0.95))
            found.append(Measured(row, epochs, accuracy, float(rng.uniform(0.2, 2.0))))
    return found


def written_out(
    features: list[csr_array], measured: list[Measured], prior: Prior
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """One column for each weight of the model: of each feature and measure, of each recipe's own
    part, and, with a wide prior, of each measure's mean. The last rows are all recipes at the end.
    """
    tasks = sorted({(kind, one.epochs) for one in measured for kind in (0, 1)})
    near = np.array(
        [
            [
                prior.fade ** abs(np.log2(a[1] / b[1])) * (prior.tie if a[0] != b[0] else 1.0)
                for b in tasks
            ]
            for a in tasks
        ]
    )
    root = np.linalg.cholesky(near)
    told = [
        (one.recipe, tasks.index((kind, one.epochs)), value)
        for one in measured
        for kind, value in (
            (0, np.arcsin(np.sqrt(one.accuracy))),
            (1, -np.log(one.loss)),
        )
    ]
    units = {}
    for kind in (0, 1):
        place = tasks.index((kind, 4))
        units[kind] = np.std([value for _, task, value in told if task == place])
    values = np.array([value / units[tasks[task][0]] for _, task, value in told])
    wanted = [(row, tasks.index((0, END))) for row in range(features[0].shape[0])]
    rows = []
    for row, task in [*((r, t) for r, t, _ in told), *wanted]:
        mean = 1e3 * np.eye(len(tasks))[task]
        parts = [
            np.sqrt((1 - prior.own) * share) * np.kron(each.toarray()[row], root[task])
            for share, each in zip(prior.shares, features, strict=True)
        ]
        own = np.sqrt(prior.own) * np.kron(np.eye(features[0].shape[0])[row], root[task])
        rows.append(np.concatenate([mean, *parts, own]))
    design = np.array(rows)
    return design[: len(told)], design[len(told) :], values, units[0]


def scale_of(seen: np.ndarray, values: np.ndarray, tasks: int, noise: float) -> float:
    """The variance of greatest likelihood: means take as many values as there are."""
    covariance = seen @ seen.T + noise * np.eye(len(values))
    return float(values @ np.linalg.solve(covariance, values)) / (len(values) - tasks)


def test_the_posterior_is_that_of_scikit_learn(features, measured):
    seen, wanted, values, unit = written_out(features, measured, PRIOR)
    regressor = GaussianProcessRegressor(
        DotProduct(sigma_0=0.0, sigma_0_bounds="fixed"), alpha=PRIOR.noise, optimizer=None
    ).fit(seen, values)
    mean, deviation = regressor.predict(wanted, return_std=True)
    scale = scale_of(seen, values, 6, PRIOR.noise)
    ours, spread = Guide(features, measured, END, [PRIOR]).latent()
    new = slice(8, None)  # of those that were measured their own part is known, too
    np.testing.assert_allclose(ours[new], unit * mean[new], rtol=1e-4)
    expected = unit * deviation * np.sqrt(scale)
    np.testing.assert_allclose(spread[new], expected[new], rtol=1e-3)


def test_the_evidence_is_the_likelihood_with_wide_means(features, measured):
    """Up to a constant, which the tasks and the number of values decide."""
    priors = [PRIOR, *grid(2)[::17]]
    data, found = _Data(features, measured, END), []
    for prior in priors:
        seen, _, values, _ = written_out(features, measured, prior)
        covariance = seen @ seen.T + prior.noise * np.eye(len(values))
        free = len(values) - 6
        distance = values @ np.linalg.solve(covariance, values)
        dense = -0.5 * (np.linalg.slogdet(covariance)[1] + free * np.log(distance))
        found.append((_Fit(data, prior).evidence, dense))
    ours, dense = np.array(found).T
    np.testing.assert_allclose(ours - ours[0], dense - dense[0], atol=1e-3)


def test_priors_are_weighed_by_evidence(features, measured):
    guide = Guide(features, measured, END)
    data = _Data(features, measured, END)
    evidence = np.array([_Fit(data, prior).evidence for prior in grid(2)])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    alone = [Guide(features, measured, END, [prior]).latent() for prior in grid(2)]
    mean = sum(w * m for w, (m, _) in zip(weights, alone, strict=True))
    square = sum(w * (m**2 + s**2) for w, (m, s) in zip(weights, alone, strict=True))
    ours = guide.latent()
    np.testing.assert_allclose(ours[0], mean, atol=5e-3)  # the least weights are left out
    np.testing.assert_allclose(ours[1], np.sqrt(square - mean**2), atol=5e-3)


def test_the_accuracy_is_that_of_a_normal_latent_value(features, measured):
    guide = Guide(features, measured, END, [PRIOR])
    mean, deviation = guide.expect()
    for row, (m, s) in enumerate(zip(*guide.latent(), strict=True)):
        m = float(np.clip(m, 0.0, np.pi / 2))

        def moment(power: int, m: float = m, s: float = s) -> float:
            ends = m - 9 * s, m + 9 * s
            return quad(lambda z: np.sin(z) ** power * norm.pdf(z, m, s), *ends)[0]

        first, second = moment(2), moment(4)
        assert mean[row] == pytest.approx(first, abs=1e-7)
        assert deviation[row] == pytest.approx(np.sqrt(second - first**2), abs=1e-6)


def test_a_guess_does_not_depend_on_who_came_first(features, measured):
    expected = [x.tolist() for x in Guide(features, measured, END).expect()]
    for seed in range(3):
        other = random.Random(seed).sample(measured, len(measured))
        assert [x.tolist() for x in Guide(features, other, END).expect()] == expected


def test_the_grid_holds_each_share_once() -> None:
    priors = grid(3)
    assert len(set(priors)) == len(priors)
    assert all(sum(prior.shares) == pytest.approx(1.0) for prior in priors)
    assert {prior.shares for prior in priors} >= {
        tuple(map(float, one)) for one in itertools.permutations((1, 0, 0))
    }


def test_little_that_is_known_is_no_trouble(features):
    one = Guide(features, [Measured(0, 4, 0.5, 1.0)], 4)
    assert np.isfinite(one.latent()).all()
    mean, deviation = one.expect()
    np.testing.assert_allclose(mean, 0.5, atol=0.5)
    assert (deviation >= 0).all()
    same = [Measured(n, e, 1.0, 0.0) for n in range(4) for e in (4, 8)]
    mean, deviation = Guide(features, same, END).expect()  # nobody came to the end
    np.testing.assert_allclose(mean, 1.0, atol=1e-3)
    with pytest.raises(ValueError, match="nothing was measured"):
        Guide(features, [], END)
