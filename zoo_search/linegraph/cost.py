"""Parameters and multiply-adds of modules."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

__all__ = ["FlopCount", "count", "meta_copy"]


class FlopCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating point operations by the formulas of ``torch.utils.flop_counter``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._total = 0

    def take(self) -> int:
        """Return the count since the last call."""
        total, self._total = self._total, 0
        return total

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if parts is NotImplemented else parts
        output = func(*args, **kwargs)
        self._total += int(formula(*args, **kwargs, out_val=output))
        return output


def meta_copy(module: nn.Module) -> nn.Module:
    """Return a deep copy of ``module`` on the meta device, in eval mode.

    Tensors that are neither parameters nor buffers (cached tables) go to the meta device too.
    """
    memo: dict[int, Tensor] = {}
    for tensor in (*module.parameters(), *module.buffers(), *_plain_tensors(module)):
        if id(tensor) in memo:
            continue
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(tensor.detach().to("meta"), tensor.requires_grad)
        else:
            memo[id(tensor)] = tensor.detach().to("meta")
    copied: nn.Module = copy.deepcopy(module, memo)
    return copied.eval()


def count(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, int]:
    """Count parameters and multiply-adds of a module for one sample.

    Args:
        module: Any module; it is neither run nor changed.
        input_shape: Shape of one sample, without the batch dimension.

    Returns:
        ``(params, macs)``; macs are the floating point operations of ``torch.utils.flop_counter``
        halved: convolutions, matrix products and attention.
    """
    # Without gradients: the counter's hooks fail on parameters that go into a module as arguments.
    shadow = meta_copy(module).requires_grad_(False)
    params = sum(parameter.numel() for parameter in module.parameters())
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    x = torch.empty((1, *input_shape), device="meta", dtype=dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        shadow(x)
    return params, int(flops.get_total_flops()) // 2


def _plain_tensors(module: nn.Module) -> list[Tensor]:
    """Return tensors held as plain attributes, or in lists and dicts, anywhere in ``module``."""
    found: list[Tensor] = []
    for part in module.modules():
        for held in vars(part).values():
            items = held.values() if isinstance(held, dict) else held
            if isinstance(items, Tensor):
                found.append(items)
            elif isinstance(held, dict | list | tuple):
                found += [item for item in items if isinstance(item, Tensor)]
    return found
