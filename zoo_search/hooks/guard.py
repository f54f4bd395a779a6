"""Pre-trained weights under a user's hook: whatever it does to them is noticed, and undone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Guard:
    """Remembers the parameters and buffers of modules, but for those that may change.

    Values are compared, since writing through ``.data`` leaves no other trace. Copies are kept, by
    which a change is undone, or only sums, which need no memory.
    """

    def __init__(
        self, modules: Iterable[nn.Module], free: Iterable[nn.Module], *, copies: bool
    ) -> None:
        skip = {part for module in free for part in module.modules()}
        parts = dict.fromkeys(part for module in modules for part in module.modules())
        kept = [part for part in parts if part not in skip]
        tables: list[dict[str, Any]] = [t for p in kept for t in (p._parameters, p._buffers)]
        self._copies = copies
        self._kept = [
            (table, name, tensor, self._value(tensor))
            for table in tables
            for name, tensor in table.items()
            if tensor is not None
        ]

    @torch.no_grad()
    def changed(self) -> bool:
        """Return whether anything was changed; put it back where there are copies."""
        found = False
        for table, name, tensor, value in self._kept:
            now = self._value(tensor)
            same = now.dtype == value.dtype and torch.equal(now, value)
            if table.get(name) is not tensor or not same:
                found = True
                table[name] = tensor
                if self._copies:
                    tensor.data = value
        return found

    def _value(self, tensor: Any) -> Tensor:
        x: Tensor = tensor.detach()
        if self._copies:
            return x.clone()
        x = x.to(torch.complex128 if x.is_complex() else torch.float64)
        return torch.stack([x.sum(), x.abs().sum().to(x.dtype)])
