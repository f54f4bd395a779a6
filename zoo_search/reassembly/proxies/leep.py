"""LEEP: how well the source's own classes foretell the target's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.networks.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.readout import source_logits
from zoo_search.reassembly.proxies.registry import proxy_traits


@proxy_traits(
    "logits of the head of the last block's model",
    images="all",
    meaning="How well the classes that a model was trained on foretell yours, as the mean log of "
    "the probability of the right one (LEEP): 0 is perfect, and e to this power is the probability "
    "that the right class typically gets.",
)
def leep(net: ReassembledNet, batches: Batches) -> float:
    """Return LEEP (Nguyen et al., ICML 2020, Eq. 2) over all different images; at most 0.

    Raises:
        ValueError: If the images have no labels, or no source head can be applied: the last block
            ends before its model does, or ``batches.zoo`` does not hold that model.
    """
    labels = batches.labels_of()
    logits = source_logits(net, batches)
    return log_expected_prediction(logits.double().softmax(dim=1), labels.to(logits.device))


def log_expected_prediction(probabilities: Tensor, labels: Tensor) -> float:
    """Return ``1/N Σ log Σ_z P(y_i | z) p_i(z)`` for p ``[N, Z]``, float64, and labels y ``[N]``.

    ``P(y | z) = P(y, z) / P(z)`` with ``P(y, z) = 1/N Σ_{i: y_i = y} p_i(z)``.
    """
    joint = F.one_hot(labels).T.to(probabilities) @ probabilities  # [Y, Z], times N
    smallest = torch.finfo(joint.dtype).tiny  # a source class that no image has at all
    # P(y | z) = P(y, z) / P(z), where the marginal is the sum over y; N cancels.
    given = joint / joint.sum(dim=0).clamp_min(smallest)
    expected = (given[labels] * probabilities).sum(dim=1)
    return float(expected.log().mean())
