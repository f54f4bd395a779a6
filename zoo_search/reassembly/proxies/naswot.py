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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.recipe import merge

__all__ = ["code_kernel", "dery_kernel", "log_det", "naswot", "naswot_dery"]

_UNITS = frozenset(
    {"relu", "hardtanh", "leaky_relu", "_prelu_kernel", "elu", "gelu", "silu", "hardswish", "mish"}
)
_ATTEMPTS = 5
_NO_UNITS = "the network has no ReLU-like unit (ReLU, GELU, SiLU, Hardswish, …)"


def naswot(net: ReassembledNet, batches: Batches) -> float:
    """Return the NASWOT score of a network.

    The kernel is a sum over units, so that of a prefix of blocks is shared through
    ``batches.cache`` by the networks that have the prefix: the same sum, in the same order.

    Raises:
        ValueError: If the network has no ReLU-like unit, its features are not finite, or its
            kernel stays singular.
    """

    def kernel(batch: int, attempt: int) -> Tensor:
        image = batches.indices(batch, attempt)
        return _blockwise_kernel(net, batches, image, (batch, attempt))

    return _mean_log_det(batches, kernel)


def naswot_dery(net: ReassembledNet, batches: Batches) -> float:
    """Return NASWOT over another set of units: signs of the outputs of activations, linear layers
    and dropout, as DeRy's reference code takes it.

    Raises:
        ValueError: If the network has no such unit, or its kernel stays singular.
    """

    def kernel(batch: int, attempt: int) -> Tensor:
        return dery_kernel(net, batches.for_net(net, batches.indices(batch, attempt)))

    return _mean_log_det(batches, kernel)


def log_det(kernel: Tensor) -> float:
    """Return ``log |det K|`` in float64; minus infinity if K is singular.

    A kernel counts as singular, too, where two images have the same codes: rounding would
    otherwise turn the determinant 0 into a very small number.
    """
    size = len(kernel)
    for i in range(size):
        same = (kernel[i + 1 :] == kernel[i]).all(dim=1)
        if bool(same.any()):
            return -math.inf
    return float(torch.linalg.slogdet(kernel.double()).logabsdet)


@torch.no_grad()
def code_kernel(net: nn.Module, x: Tensor) -> Tensor:
    """Return NASWOT's kernel ``[B, B]``, float64, for images ``x`` ``[B, C, H, W]``."""
    with _Codes(x) as codes:
        net(x)
    if codes.units == 0:
        raise ValueError(_NO_UNITS)
    kernel: Tensor = codes.kernel
    return kernel


@torch.no_grad()
def dery_kernel(net: nn.Module, x: Tensor) -> Tensor:
    """Return the kernel ``[B, B]`` over the outputs of activations, linear layers and dropout."""
    codes = _Codes(x)
    kinds = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.Linear, nn.Dropout)
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out: codes.add(out))
        for module in net.modules()
        if isinstance(module, kinds)
    ]
    try:
        net(x)
    finally:
        for hook in hooks:
            hook.remove()
    if codes.units == 0:
        raise ValueError("the network has no activation, linear or dropout layer")
    kernel: Tensor = codes.kernel
    return kernel


class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the kernel over the inputs of ReLU-like operations while it is active."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = len(x)
        self.units = 0
        self.kernel = torch.zeros(self.batch, self.batch, dtype=torch.float64, device=x.device)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Look at the input before the operation, which may overwrite it."""
        name = func.overloadpacket.__name__.removesuffix("_")
        # ReLU6 reaches the dispatcher as hardtanh from 0 to 6; a hardtanh around 0 is no unit.
        if name in _UNITS and not (name == "hardtanh" and (len(args) < 2 or args[1] != 0)):
            self.add(args[0])
        return func(*args, **(kwargs or {}))

    def add(self, x: Tensor) -> None:
        """Add the units of ``x``, whose first axis is the batch (or windows of it, in order)."""
        if x.shape[0] % self.batch or x.numel() == 0:
            return
        flat = x.reshape(self.batch, -1)
        code = torch.gt(flat, 0, out=torch.empty(flat.shape, device=x.device))
        both = (code @ code.T).double()
        on = both.diagonal()
        units = code.shape[1]
        self.kernel += units - on[:, None] - on[None, :] + 2 * both
        self.units += units


@torch.no_grad()
def _blockwise_kernel(
    net: ReassembledNet, batches: Batches, images: np.ndarray, draw: tuple[int, int]
) -> Tensor:
    """The kernel of :func:`code_kernel`, block by block, with what the cache holds of a prefix."""

    def through(count: int) -> Sequence[Tensor]:
        """Run the first ``count`` blocks: features, kernel, number of units."""
        if batches.cache is None or count == 0:
            return extend(count)
        key = (merge(net.recipe.blocks[:count]), draw)
        return batches.cache.get(key, lambda: extend(count))

    def extend(count: int) -> Sequence[Tensor]:
        if count == 0:
            x = batches.for_net(net, images)
            kernel = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
            return x, kernel, torch.zeros((), dtype=torch.int64)
        x, kernel, units = through(count - 1)
        # A block may work in place, and what comes from the cache is kept.
        x = net.stitches[count - 2](x).clone() if count > 1 else x
        with _Codes(x) as codes:
            x = net.blocks[count - 1](x)
        return x, kernel + codes.kernel, units + codes.units

    features, kernel, units = extend(len(net.blocks))  # the whole is asked for once: not kept
    with _Codes(features) as codes:
        out = net.forward_head(features)
    if not bool(torch.isfinite(out).all()):
        raise ValueError("the network's output is not finite")
    if int(units) + codes.units == 0:
        raise ValueError(_NO_UNITS)
    total: Tensor = kernel + codes.kernel
    return total


def _mean_log_det(batches: Batches, kernel: Callable[[int, int], Tensor]) -> float:
    scores = []
    for batch in batches:
        for attempt in range(_ATTEMPTS):
            score = log_det(kernel(batch, attempt))
            if score > -math.inf:
                break
        else:
            raise ValueError(
                f"the kernel is singular: images have equal codes in {_ATTEMPTS} draws of a batch"
            )
        scores.append(score)
    return sum(scores) / len(scores)
