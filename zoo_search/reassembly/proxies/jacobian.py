"""Jacobian covariance: how differently a network bends around different images."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_search.networks.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.registry import proxy_traits

_K = 1e-5


@proxy_traits(
    "gradient of the sum of the logits by the image",
    meaning="How differently a network responds to small changes of different images, through a "
    "random head (Jacobian covariance). It looks at no label; at most about minus the number of "
    "images of a batch, and nearer to it is better.",
)
def jacov(net: ReassembledNet, batches: Batches) -> float:
    """Return ``-Σ (log(λ + k) + 1/(λ + k))``, k = 1e-5, the mean over the batches.

    The λ are the eigenvalues of the correlation matrix of the rows ``∂(Σ logits)/∂x``, one a
    normalised image: the first version of Mellor et al., "Neural Architecture Search without
    Training" (arXiv 2006.04647v1, Eqs. 2-5, and the sum over the logits of its code). Taken in eval
    mode, where an image's row does not depend on the other images; without labels.

    Raises:
        ValueError: If the gradient of an image is the same everywhere or not finite.
    """
    scores = []
    for batch in batches:
        x = batches.for_net(net, batches.indices(batch)).detach().requires_grad_(True)
        with torch.enable_grad():
            (rows,) = torch.autograd.grad(net(x).sum(), x)
        scores.append(correlation_score(rows.flatten(1)))
    return sum(scores) / len(scores)


def correlation_score(rows: Tensor) -> float:
    """Return the score for rows ``[B, D]``, in float64.

    Raises:
        ValueError: If a row has no variance or is not finite.
    """
    centred = rows.double() - rows.double().mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()) or not bool(torch.isfinite(norms).all()):
        raise ValueError("the gradient by an image is constant or not finite: no correlation")
    unit = centred / norms
    values = torch.linalg.eigvalsh(unit @ unit.T).clamp_min(0)
    return -float((torch.log(values + _K) + 1 / (values + _K)).sum())
