"""Whether architectures that a file names take about as much memory as its weights do."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn.modules import module as registrations

from zoo_search.core.errors import UserError, clipped
from zoo_search.core.files import gb
from zoo_search.zoo.build import build, is_timm

_UNUSED = 64  # times its weights that a winner's parents may take: it may use one block of each
_ALWAYS = 2**30  # bytes that they may take, however few its weights are
_MOST_MODULES = 20_000  # of one architecture; timm's largest have a few thousand


class SizeBudget:
    """Bytes that architectures may take together, beside weights of ``stored`` bytes in a file.

    It is 1 GB and 64 times the weights, but no more than the memory that is free.
    """

    def __init__(self, stored: int, where: str) -> None:
        self._most = min(_ALWAYS + _UNUSED * stored, int(psutil.virtual_memory().available))
        self._stored, self._where, self._bytes = stored, where, 0

    def take(self, arch: str, kwargs: Mapping[str, Any], place: str, size: int | None) -> None:
        """Count the parameters and buffers of an architecture, for images of a height and width.

        It is built without memory for its values (torch's device ``meta``). What is no name of
        timm's is its author's code, which the reader trusts.

        Raises:
            UserError: If they are too many, or its modules are; if it cannot be built.
        """
        if not is_timm(arch):
            return
        left = _MOST_MODULES

        def module(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise UserError(self._refusal(arch, kwargs, f"{_MOST_MODULES:,} modules"))

        def tensor(_: nn.Module, name: str, value: Tensor | None) -> None:
            self._bytes += 0 if value is None else value.numel() * value.element_size()
            if self._bytes > self._most:
                raise UserError(self._refusal(arch, kwargs, gb(self._most)))

        with torch.device("meta"), _registered(module, tensor):
            build(arch, kwargs, place, size)

    def _refusal(self, arch: str, kwargs: Mapping[str, Any], most: str) -> str:
        return (
            f"{self._where} asks for the architecture '{arch}' with "
            f"{clipped(dict(kwargs)) if kwargs else 'no arguments'}, and would take more than "
            f"{most}; the weights in it have {gb(self._stored)}. It is not built. Copy it again "
            "if it is damaged; if you know and trust whoever made it, and it fits this machine, "
            "say so: zs.load(FOLDER, trust=True), or --trust on the command line."
        )


@contextmanager
def _registered(module: Any, tensor: Any) -> Iterator[None]:
    """Call functions for each module, parameter and buffer that is made in this thread."""
    here = threading.get_ident()

    def of_here(function: Any) -> Any:
        return lambda *given: function(*given) if threading.get_ident() == here else None

    handles = [
        registrations.register_module_module_registration_hook(of_here(module)),
        registrations.register_module_parameter_registration_hook(of_here(tensor)),
        registrations.register_module_buffer_registration_hook(of_here(tensor)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
