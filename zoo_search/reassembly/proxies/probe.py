"""The ridge probe: how well a linear head on frozen features tells the classes apart."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from zoo_search.reassembly.fit import Moments, fit_ridge, held_out
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.readout import pooled_features

__all__ = ["probe"]


@torch.no_grad()
def probe(net: ReassembledNet, batches: Batches) -> float:
    """Return the held-out R² of ridge regression of one-hot labels on pooled features.

    Closed form, over all different target images; a quarter is held out, and chooses
    the penalty. 1 is perfect, 0 no better than the share of the classes.

    Raises:
        ValueError: If the images have no labels.
    """
    labels = batches.labels_of()
    features = pooled_features(net, batches)
    targets = F.one_hot(labels.to(features.device))
    sizes = (features.shape[1], targets.shape[1], features.device)
    train, test, out = Moments(*sizes), Moments(*sizes), held_out(0, features)
    train.add(features[~out], targets[~out])
    test.add(features[out], targets[out])
    return fit_ridge(train, test).r2
