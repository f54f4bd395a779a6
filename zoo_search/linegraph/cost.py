"""Parameters and multiply-adds of modules, and copies of them without data."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from zoo_search.core.imports import dispatch_without_dynamo


@dispatch_without_dynamo
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
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # What has a formula is counted. What has none may be made of parts that have one (a linear
        # layer is an addmm): it is taken apart, with this mode on again for the parts.
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
    # What the memo holds under an object's id is what deepcopy takes for its copy: so no data is
    # ever copied, and what is shared inside the module is shared inside the copy.
    memo: dict[int, Tensor] = {}
    for number, (_, tensor) in known_tensors(module).items():
        shadow = tensor.detach().to("meta")
        if isinstance(tensor, nn.Parameter):
            shadow = nn.Parameter(shadow, tensor.requires_grad)
        memo[number] = shadow
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


_OWN = frozenset(vars(nn.Module()))


def known_tensors(model: nn.Module) -> dict[int, tuple[str, Tensor]]:
    """Return every tensor that ``model`` holds, by id: parameters, buffers, plain attributes.

    Names are ``path.attribute``; items of lists and dicts are ``path.attribute[key]``.
    """
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found.setdefault(id(tensor), (name, tensor))
    for path, module in model.named_modules():
        for attribute, held in vars(module).items():
            if attribute in _OWN or not isinstance(held, Tensor | list | tuple | dict):
                continue
            name = f"{path}.{attribute}" if path else attribute
            items: list[tuple[str, object]] = [(name, held)]
            if not isinstance(held, Tensor):
                pairs = held.items() if isinstance(held, dict) else enumerate(held)
                items = [(f"{name}[{key!r}]", item) for key, item in pairs]
            for item_name, item in items:
                if isinstance(item, Tensor):
                    found.setdefault(id(item), (item_name, item))
    return found
