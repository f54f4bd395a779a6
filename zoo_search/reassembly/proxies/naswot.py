"""NASWOT: how many linear regions a network puts between images (Mellor et al., ICML 2021).

For each ReLU-like unit, an image has the binary code 1 where the unit's input is above 0. With
``N_A`` units and the Hamming distance ``d`` between the codes of two images, the kernel is
``K[i, j] = N_A - d(i, j)``, and the score ``log |det K|``. DeRy section 4 takes the mean over 5
batches of 32 images.

ReLU-like are ReLU, ReLU6, LeakyReLU, PReLU, ELU, GELU, SiLU, Hardswish and Mish. For ReLU the code
says which linear piece the unit is on. The others are not piecewise linear, but each has one bend
at (or near) 0, where it goes from "off" to "on": the code is the sign of the input there, too.

The units are found by the operation that torch runs, not by the class of a module: functional
calls and activations fused into a norm layer count like any other. Gates (sigmoid, Hardsigmoid)
do not count, and neither does an activation of a tensor that does not depend on the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.recipe import merge
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.codes import Codes
from zoo_search.reassembly.proxies.readout import check_finite
from zoo_search.reassembly.proxies.registry import proxy_traits

_ATTEMPTS = 5
_PIXELS = 2**21  # of the images of one pass: small ones go in several batches at once
Draws = tuple[tuple[int, int], ...]  # number of a batch, number of the attempt


@proxy_traits(
    "signs of the inputs of ReLU, ReLU6, LeakyReLU, PReLU, ELU, GELU, SiLU, Hardswish, Mish",
    meaning="How differently the units of a network respond to different images, as the log of a "
    "determinant (NASWOT). It looks at no label and grows with the number of units, so that it "
    "says nothing of accuracy, and compares networks of like size best.",
)
def naswot(net: ReassembledNet, batches: Batches) -> float:
    """Return the NASWOT score of a network.

    The kernel is a sum over units, so that of a prefix of blocks is shared through
    ``batches.cache`` by the networks that have the prefix: the same sum, in the same order.

    Raises:
        ValueError: If the network has no ReLU-like unit, its features are not finite, or its
            kernel stays singular.
    """
    pixels = batches.size * net.input_size[1] * net.input_size[2]
    kernels = partial(_blockwise_kernels, net, batches)
    return mean_log_det(batches, kernels, max(1, _PIXELS // pixels))


def log_det(kernel: Tensor) -> float:
    """Return ``log |det K|`` in float64; minus infinity if K is singular.

    A kernel counts as singular, too, where two images have the same codes: rounding would
    otherwise turn the determinant 0 into a very small number.
    """
    if len(torch.unique(kernel, dim=0)) < len(kernel):
        return -math.inf
    return float(torch.linalg.slogdet(kernel.double()).logabsdet)


@torch.no_grad()
def _blockwise_kernels(net: ReassembledNet, batches: Batches, draws: Draws) -> Tensor:
    """NASWOT's kernels ``[draws, B, B]``, float64, of several batches in one pass.

    Block by block, with what the cache holds of a prefix.
    """
    groups = len(draws)

    def through(count: int) -> Sequence[Tensor]:
        """Run the first ``count`` blocks: features, kernel, number of units."""
        if batches.cache is None or count == 0:
            return extend(count)
        key = (merge(net.recipe.blocks[:count]), draws)
        return batches.cache.get(key, lambda: extend(count))

    def extend(count: int) -> Sequence[Tensor]:
        if count == 0:
            x = batches.for_net(net, np.concatenate([batches.indices(*draw) for draw in draws]))
            kernel = torch.zeros((), dtype=torch.float64, device=x.device)
            return x, kernel, torch.zeros((), dtype=torch.int64)
        # Units(prefix + block) = Units(prefix) + Units(block), and so their kernels, which count
        # agreeing units: what the prefix adds is taken over from whoever computed it.
        x, kernel, units = through(count - 1)
        # A block may work in place, and what comes from the cache is kept.
        x = net.stitches[count - 2](x).clone() if count > 1 else x
        with Codes(x, groups) as codes:
            x = net.blocks[count - 1](x)
        return x, kernel + codes.kernel, units + codes.units

    features, kernel, units = extend(len(net.blocks))  # the whole is asked for once: not kept
    with Codes(features, groups) as codes:
        # The target's head has no unit, and with taps reads more than these features.
        out = net.pool(features) if net.taps else net.forward_head(features)
    check_finite(out, "network's output is")
    if int(units) + codes.units == 0:
        raise ValueError("the network has no ReLU-like unit (ReLU, GELU, SiLU, Hardswish, …)")
    total: Tensor = kernel + codes.kernel
    return total


def mean_log_det(
    batches: Batches, kernels: Callable[[Draws], Sequence[Tensor] | Tensor], together: int
) -> float:
    """Return the mean of ``log |det K|`` over the batches; a batch with K singular is drawn anew.

    ``kernels`` gives those of up to ``together`` draws at a time.
    """
    scores: dict[int, float] = {}
    for attempt in range(_ATTEMPTS):
        left = [(batch, attempt) for batch in batches if batch not in scores]
        for start in range(0, len(left), together):
            draws = tuple(left[start : start + together])
            for (batch, _), kernel in zip(draws, kernels(draws), strict=True):
                score = log_det(kernel)
                if score > -math.inf:
                    scores[batch] = score
    if len(scores) < batches.number:
        raise ValueError(
            f"the kernel is singular: images have equal codes in {_ATTEMPTS} draws of a batch"
        )
    return math.fsum(scores.values()) / len(scores)
