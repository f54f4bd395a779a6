"""The ridge probe: how well a linear head on frozen features tells the classes apart."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.ridge import fit_ridge, split_moments
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.readout import pooled_features
from zoo_search.reassembly.proxies.registry import proxy_traits


@proxy_traits(
    "features at the last cut, pooled",
    images="all",
    meaning="How much of the classes a linear head on the frozen features foretells on images that "
    "it was not fitted to (R²): 1 is all of it, 0 no more than how frequent the classes are. It is "
    "no accuracy.",
)
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
    return fit_ridge(*split_moments(features, F.one_hot(labels.to(features.device)))).r2
