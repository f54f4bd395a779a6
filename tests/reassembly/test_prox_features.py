"""Proxies of pooled features and of the source's head against their formulas, written out."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from zoo_search.reassembly import BlockRef, Recipe, assemble
from zoo_search.reassembly.cache import TensorCache
from zoo_search.reassembly.fit import ALPHAS, held_out
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


def leep_by_hand(probabilities: list[list[float]], labels: list[int]) -> float:
    n, sources, classes = len(labels), len(probabilities[0]), max(labels) + 1
    joint = [[0.0] * sources for _ in range(classes)]
    for p, y in zip(probabilities, labels, strict=True):
        for z in range(sources):
            joint[y][z] += p[z] / n
    marginal = [sum(joint[y][z] for y in range(classes)) for z in range(sources)]
    total = 0.0
    for p, y in zip(probabilities, labels, strict=True):
        total += math.log(sum(joint[y][z] / marginal[z] * p[z] for z in range(sources)))
    return total / n


@pytest.mark.parametrize("head", ["source", "target"])
def test_leep_with_the_source_head(zoo, images, head):
    cnn = zoo["cnn"]
    recipe = Recipe((BlockRef("vit", 0, 2), BlockRef("cnn", 6, 12)), head)
    net = assemble(recipe, zoo, "random", num_classes=4)
    batches = Batches(images, LABELS, zoo=zoo)
    with torch.no_grad():
        features = net.forward_features(batches.for_net(net))
        probabilities = cnn.graph.head(features).double().softmax(1).tolist()
    by_hand = leep_by_hand(probabilities, LABELS.tolist())
    assert score(net, "leep", batches) == pytest.approx(by_hand, rel=1e-9)
    assert by_hand < 0


def test_leep_of_certain_sources():
    """Sources that name the classes are certain, those that say the same of all are at chance."""
    from zoo_search.reassembly.proxies.leep import log_expected_prediction

    labels = torch.arange(20) % 4
    perfect = torch.eye(6, dtype=torch.float64)[labels]  # two source classes never occur
    assert log_expected_prediction(perfect, labels) == 0
    blind = torch.full((20, 6), 1 / 6, dtype=torch.float64)
    assert log_expected_prediction(blind, labels) == pytest.approx(math.log(1 / 4))


def test_leep_says_why_there_is_no_source_head(zoo, images):
    short = Recipe((BlockRef("vit", 0, 2), BlockRef("cnn", 4, 11)))
    net = assemble(short, zoo, "random", num_classes=4)
    with pytest.raises(ValueError, match=r"cnn\[4,11\), ends before node 12"):
        score(net, "leep", Batches(images, LABELS, zoo=zoo))
    net = assemble(WHOLE, zoo, "random", num_classes=4)
    with pytest.raises(ValueError, match="zoo is not at hand"):
        score(net, "leep", Batches(images, LABELS))


def test_probe_is_ridge_regression_in_closed_form(zoo, images):
    net = assemble(MIXED, zoo, "random", num_classes=4)
    batches = Batches(images, LABELS)
    with torch.no_grad():
        x = net.pool(net.forward_features(batches.for_net(net))).double().numpy()
    y, out = np.eye(4)[LABELS], held_out(0, torch.from_numpy(x)).numpy()
    mean_x, mean_y = x[~out].mean(0), y[~out].mean(0)
    centred = x[~out] - mean_x
    scatter = centred.T @ centred
    scores = []
    for alpha in ALPHAS:
        penalty = alpha * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
        weight = np.linalg.solve(scatter + penalty, centred.T @ (y[~out] - mean_y))
        error = ((y[out] - mean_y - (x[out] - mean_x) @ weight) ** 2).sum()
        scores.append(1 - error / ((y[out] - y[out].mean(0)) ** 2).sum())
    assert score(net, "probe", batches) == pytest.approx(max(scores), rel=1e-5)


def test_features_tell_separable_from_random_labels(zoo, images):
    net = assemble(WHOLE, zoo, "random", num_classes=2)
    labels = torch.arange(len(images)) % 2
    shifted = images // 2 + (labels * 127).to(torch.uint8)[:, None, None, None]
    right, wrong = Batches(shifted, labels, zoo=zoo), Batches(images, labels, zoo=zoo)
    assert score(net, "probe", right) > 0.5
    assert score(net, "probe", wrong) < 0.3
    for name in ("logme", "leep"):
        assert score(net, name, right) > score(net, name, wrong)


def test_one_forward_pass_serves_all_that_read_features(zoo, images):
    net = assemble(WHOLE, zoo, "random", num_classes=4)
    passes = []
    net.blocks[0].register_forward_hook(lambda _m, args, _out: passes.append(len(args[0])))
    names = ("probe", "logme", "leep")
    alone = [score(net, name, Batches(images, LABELS, zoo=zoo)) for name in names]
    assert sum(passes) == 3 * 64
    passes.clear()
    batches = Batches(images, LABELS, cache=TensorCache(2**26), zoo=zoo)
    assert [score(net, name, batches) for name in names] == alone
    assert sum(passes) == 64
    kept = assemble(Recipe.whole("cnn", 12, "source"), zoo)
    assert [score(kept, name, batches) for name in names] == pytest.approx(alone)
