"""LogME against a direct search for the greatest evidence."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.reassembly.proxies import Batches, score
from zoo_search.reassembly.proxies.logme import log_evidence

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 10)))

WHOLE = Recipe.whole("cnn", 12)

LABELS = torch.arange(64) % 4


def best_evidence(features: np.ndarray, y: np.ndarray) -> float:
    """``max log N(y; 0, I/β + F Fᵀ/α) / N`` by direct search over α and β."""
    n = len(y)

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -25, 25))
        covariance = np.eye(n) / beta + features @ features.T / alpha
        return -float(multivariate_normal.logpdf(y, cov=covariance, allow_singular=True)) / n

    starts = [(a, b) for a in (-4.0, 2.0, 8.0) for b in (0.0, 4.0)]
    options = {"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000}
    return -min(minimize(negative, s, method="Nelder-Mead", options=options).fun for s in starts)


@pytest.mark.parametrize(("n", "d", "noise"), [(40, 6, 0.3), (40, 6, 5.0), (20, 30, 1.0)])
def test_log_evidence_is_the_maximum(n, d, noise):
    rng = np.random.default_rng(n + d)
    features = rng.normal(size=(n, d)) * rng.uniform(0.2, 3, size=d)
    signal = features[:, :2].sum(1) + noise * rng.normal(size=n)
    targets = np.stack([signal > 0, signal > 1, signal <= 0], axis=1).astype(float)
    found = log_evidence(torch.from_numpy(features), torch.from_numpy(targets))
    expected = [best_evidence(features, y) for y in targets.T]
    assert found.numpy() == pytest.approx(np.array(expected), abs=1e-7)


def test_log_evidence_at_the_ends_of_its_range():
    """Labels that the features give exactly, or tell nothing of, still have a finite evidence."""
    rng = np.random.default_rng(0)
    targets = torch.from_numpy(rng.permutation(np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)))
    exact = log_evidence(torch.cat([targets, torch.zeros(40, 3)], dim=1), targets)
    assert torch.isfinite(exact).all()
    orthogonal = torch.linalg.qr(torch.cat([targets, torch.randn(40, 6)], dim=1).double())[0][:, 2:]
    nothing = log_evidence(orthogonal, targets)
    flat = -0.5 * (math.log(2 * math.pi * 0.5) + 1)  # α → ∞: noise of the labels' own variance
    assert nothing.numpy() == pytest.approx(np.full(2, flat), abs=1e-8)
    assert (exact > nothing + 5).all()
    with pytest.raises(ValueError, match="all zero"):
        log_evidence(torch.zeros(40, 3), targets)
    with pytest.raises(ValueError, match="not finite"):
        log_evidence(torch.full((40, 3), math.nan), targets)


def test_logme_of_a_network(zoo, images):
    net = assemble(MIXED, zoo, "random", num_classes=4)
    batches = Batches(images[:40], LABELS[:40] * 2)  # classes 1, 3 and 5 do not occur
    with torch.no_grad():
        features = net.pool(net.forward_features(batches.for_net(net))).double().numpy()
    expected = np.mean(
        [best_evidence(features, (LABELS[:40] == c).numpy() * 1.0) for c in range(4)]
    )
    assert score(net, "logme", batches) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="two classes"):
        score(net, "logme", Batches(images, LABELS * 0))
