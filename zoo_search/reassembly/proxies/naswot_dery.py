"""NASWOT over the units that DeRy's own code looks at (its ``zero_nas/naswot.py``).

They are the signs of the *outputs* of modules, told by their class: ReLU, LeakyReLU, PReLU, ELU,
SELU, GELU, Hardswish, Mish, Linear, Dropout, the attention of a ViT and that of a Swin. Neither
SiLU nor ReLU6 is among them, so that of an EfficientNet nothing counts but its head, which counts
in every network and is random in a search (see :mod:`.gradients`). ``naswot`` is the original
definition.

Where the class that the code names has another name in timm today, that one counts: timm's own GELU
modules, and ``WindowAttention`` for OpenMMLab's ``ShiftWindowMSA``, which gives the same units in
another order. Attention runs without a fused kernel, as there, so that the dropout of its weights
is seen (units that are always on).

Three things are not as in the code. It scores networks in train mode, where batch norms mix the
images of a batch and dropout is drawn anew; here, as everywhere in the search, in eval mode. It
takes the first batches of a loader in order, and a singular kernel as it comes; here batches are
drawn by seed, and drawn anew. And it divides the score by the size of a batch, which changes no
order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo_search.networks.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.codes import Codes
from zoo_search.reassembly.proxies.naswot import Draws, mean_log_det
from zoo_search.reassembly.proxies.readout import check_finite
from zoo_search.reassembly.proxies.registry import proxy_traits

_KINDS = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.Hardswish, nn.Mish,
    nn.Linear, nn.Dropout,
)  # fmt: skip
_TIMM = frozenset(  # by name, so that nothing is imported for a network that has none
    {
        "timm.layers.activations.GELU",
        "timm.layers.activations.GELUTanh",
        "timm.layers.attention.Attention",
        "timm.models.vision_transformer.Attention",  # where it stood before
        "timm.models.swin_transformer.WindowAttention",
    }
)


@proxy_traits(
    "signs of the outputs of ReLU, LeakyReLU, PReLU, ELU, SELU, GELU, Hardswish, Mish, Linear, "
    "Dropout, attention of ViT and Swin",
    version=2,
    meaning="How differently the units of a network respond to different images, as the log of a "
    "determinant, over the layers that DeRy's own code looks at. It looks at no label and grows "
    "with the number of units, so that it says nothing of accuracy.",
)
def naswot_dery(net: ReassembledNet, batches: Batches) -> float:
    """Return NASWOT over the hook set of DeRy's own code, the mean over the batches.

    Raises:
        ValueError: If the network has no such unit, its output is not finite, or its kernel stays
            singular.
    """

    def kernels(draws: Draws) -> list[Tensor]:
        return [dery_kernel(net, batches.for_net(net, batches.indices(*draw))) for draw in draws]

    return mean_log_det(batches, kernels, 1)


@torch.no_grad()
def dery_kernel(net: nn.Module, x: Tensor) -> Tensor:
    """Return the kernel ``[B, B]``, float64, over the outputs of the modules that count.

    Raises:
        ValueError: If there is none, or the network's output is not finite.
    """
    codes = Codes(x)
    with ExitStack() as hooks:
        hooks.enter_context(_unfused(net))
        for module in net.modules():
            if _counts(module):
                add = module.register_forward_hook(lambda _module, _inputs, out: codes.add(out))
                hooks.enter_context(add)
        check_finite(net(x), "network's output is")
    if codes.units == 0:
        raise ValueError("the network has no module that counts (ReLU, GELU, Linear, …)")
    return codes.kernel[0]


def _counts(module: nn.Module) -> bool:
    """Return whether a module is of a class that DeRy's code hooks, or of one derived from it."""
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__)
    return isinstance(module, _KINDS) or any(name in _TIMM for name in names)


@contextmanager
def _unfused(net: nn.Module) -> Iterator[None]:
    """Let timm's attention compute its weights as tensors for a while."""
    fused: list[Any] = [m for m in net.modules() if getattr(m, "fused_attn", False) is True]
    for module in fused:
        module.fused_attn = False
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True
