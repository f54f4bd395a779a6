"""Proxies from one backward pass (Abdelfattah et al., "Zero-Cost Proxies", ICLR 2021)."""

from __future__ import annotations

import copy
import math

import torch
from torch.nn import functional as F

from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches

__all__ = ["grad_norm", "synflow"]


def grad_norm(net: ReassembledNet, batches: Batches) -> float:
    """Return the sum over parameters of the Euclidean norm of the gradient of the cross-entropy.

    The mean over the batches, in eval mode, with the head as it is.

    Raises:
        ValueError: If the images have no labels.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    total = 0.0
    for batch in batches:
        chosen = batches.indices(batch)
        x = batches.for_net(net, chosen)
        labels = batches.labels_of(chosen).to(x.device)
        with torch.enable_grad():
            loss = F.cross_entropy(net(x), labels)
            grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        total += sum(float(g.norm()) for g in grads if g is not None)
    return total / batches.number


def synflow(net: ReassembledNet, batches: Batches) -> float:
    """Return the logarithm of SynFlow's ``Σ θ ∂R/∂θ`` (Tanaka et al., NeurIPS 2020).

    R is the sum of the logits for an image of ones with every parameter replaced by its absolute
    value, in float64. No image of the target is looked at. The logarithm keeps the order and
    stays finite for deep networks.
    """
    linear = copy.deepcopy(net).double()
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
    parameters = [p for p in linear.parameters() if p.requires_grad]
    ones = torch.ones(1, *net.input_size, dtype=torch.float64, device=parameters[0].device)
    with torch.enable_grad():
        grads = torch.autograd.grad(linear(ones).sum(), parameters, allow_unused=True)
    flow = sum(
        float((p.detach() * g).sum().abs())
        for p, g in zip(parameters, grads, strict=True)
        if g is not None
    )
    return math.log(flow) if flow > 0 else math.nan
