"""The ridge probe: how well a linear head on frozen features tells the classes apart."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from zoo_search.reassembly.fit import Moments, fit_ridge, held_out
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches

__all__ = ["probe"]

_CHUNK = 64


@torch.no_grad()
def probe(net: ReassembledNet, batches: Batches) -> float:
    """Return the held-out R² of ridge regression of one-hot labels on pooled features.

    Closed form, over all different target images; a quarter is held out, and chooses
    the penalty. 1 is perfect, 0 no better than the share of the classes.

    Raises:
        ValueError: If the images have no labels or the network has the source's head.
    """
    if net.recipe.head != "target":
        raise ValueError("the probe needs a recipe with 'head: target'")
    x, labels = batches.for_net(net), batches.labels_of()
    classes = int(labels.max()) + 1
    parts: tuple[Moments, Moments] | None = None
    for start in range(0, len(x), _CHUNK):
        features = net.pool(net.forward_features(x[start : start + _CHUNK]))
        y = F.one_hot(labels[start : start + _CHUNK].to(x.device), classes)
        if parts is None:
            sizes = (features.shape[1], classes, x.device)
            parts = (Moments(*sizes), Moments(*sizes))
        out = held_out(start, features)
        parts[0].add(features[~out], y[~out])
        parts[1].add(features[out], y[out])
    assert parts is not None
    return fit_ridge(*parts).r2
