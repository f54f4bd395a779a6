"""The ridge probe in closed form."""

import numpy as np
import pytest
import torch

from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.ridge import ALPHAS, held_out
from zoo_search.reassembly.proxies import Batches, score

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 10)))

WHOLE = Recipe.whole("cnn", 12)

LABELS = torch.arange(64) % 4


@pytest.mark.parametrize("taps", ["last", "blocks"])
def test_probe_is_ridge_regression_in_closed_form(zoo, images, taps):
    """On what the head reads; of every block, each is brought to the same spread."""
    net = assemble(Recipe(MIXED.blocks, "target", taps), zoo, "random", num_classes=4)
    batches = Batches(images, LABELS)
    with torch.no_grad():
        features, read = net.read(batches.for_net(net))
        parts = [part.double().numpy() for part in (*read, net.pool(features))]
    assert len(parts) == (3 if taps == "blocks" else 1)
    x = np.hstack([part / np.sqrt(part.var(0).sum()) for part in parts])
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
