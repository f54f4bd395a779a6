"""SynFlow as the zero-cost proxies take it (Tanaka et al., NeurIPS 2020; Abdelfattah et al., 2021).

SynFlow asks how much flows through every weight of a network in which all is positive. The code of
Abdelfattah et al. (SamsungLabs/zero-cost-nas, measure ``synflow``) makes every parameter absolute,
turns batch norms off, and counts the weights of convolutions and linear layers, no biases, in
double precision; so does this. Buffers stay as they are, where the code makes them absolute, too:
those of batch norms count for nothing, and the masks of windows in a Swin must stay negative.

**Norms.** Batch norms are off wherever torch computes one: as a module, fused with an activation
(which stays), and over weights, as weight-standardised convolutions do it, since a standardised
weight is not absolute. Layer and group norms stay on, as in the code, which knows none: without
them the logits of attention grow with the square of what a block is given, and a ViT-L or a Swin
leaves float64. A norm divides by the scale of what comes before it and takes its mean away, so in a
network with layer norms the score is no sum over positive paths; compare such networks with their
like.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zoo_search.networks.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.gradients import LAYERS
from zoo_search.reassembly.proxies.registry import proxy_traits

_BATCH_NORMS = frozenset({F.batch_norm, torch.batch_norm})


@proxy_traits(
    "weights of Conv1d, Conv2d, Conv3d, Linear; batch norms off",
    images="none",
    precision="fp64",
    version=2,
    meaning="How much can flow from the image to the classes over all weights, as a logarithm "
    "(SynFlow). It looks at no image at all, and grows with depth and width.",
)
def synflow(net: ReassembledNet, batches: Batches) -> float:
    """Return the logarithm of SynFlow's ``Σ |θ ∂R/∂θ|`` (Tanaka et al., Eq. 2).

    θ are the weights of convolutions and linear layers, in blocks, stitches and head, which is
    random in a search (see :mod:`.gradients`); R is the sum of the logits for an image of ones with
    every parameter replaced by its absolute value and batch norms off, in float64. No image of the
    target is looked at. The logarithm keeps the order.

    Raises:
        ValueError: If the network is so deep that R exceeds float64.
    """
    linear = copy.deepcopy(net).double()
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
    layers = [module for module in linear.modules() if isinstance(module, LAYERS)]
    weights = [layer.weight.requires_grad_(True) for layer in layers]
    ones = torch.ones(
        1, *net.input_size, dtype=torch.float64, device=next(linear.parameters()).device
    )
    with torch.enable_grad(), BatchNormsOff():
        total = linear(ones).sum()
    grads = torch.autograd.grad(total, weights, allow_unused=True)
    flow = sum(
        float((weight.detach() * grad).abs().sum())
        for weight, grad in zip(weights, grads, strict=True)
        if grad is not None
    )
    if not math.isfinite(flow):
        raise ValueError(
            f"the flow is {flow}: without batch norms what goes through it exceeds float64"
        )
    return math.log(flow) if flow > 0 else math.nan


class BatchNormsOff(TorchFunctionMode):
    """While it is active, a batch norm gives what it is given."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run any other operation as it is."""
        kwargs = kwargs or {}
        if func in _BATCH_NORMS:
            # A copy: what follows may work in place, and the input may be needed elsewhere.
            return (args[0] if args else kwargs["input"]).clone()
        return func(*args, **kwargs)
