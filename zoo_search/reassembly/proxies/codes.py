"""Binary codes of units, and the kernel of Hamming distances between images' codes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo_search.core.imports import dispatch_without_dynamo

_UNITS = frozenset(
    {"relu", "hardtanh", "leaky_relu", "_prelu_kernel", "elu", "gelu", "silu", "hardswish", "mish"}
)
_WORDS = 2**13  # at a time: what 32 images have of them stays in a core's cache
_EXACT = 2**24  # float32 counts every whole number up to here


@dispatch_without_dynamo
class Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gathers the kernel over the inputs of ReLU-like operations while it is active.

    The first axis of ``x`` says how many images there are, in ``groups`` of equal size, each with a
    kernel of its own. ``units`` counts those so far.
    """

    def __init__(self, x: Tensor, groups: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = len(x)
        self.units = 0
        size = len(x) // groups
        self._distance = torch.zeros(groups, size, size, dtype=torch.float64, device=x.device)
        self._packed: list[np.ndarray] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Look at the input before the operation, which may overwrite it."""
        name = _unit(func)
        # ReLU6 reaches the dispatcher as hardtanh from 0 to 6; a hardtanh around 0 is no unit.
        if name and not (name == "hardtanh" and (len(args) < 2 or args[1] != 0)):
            self.add(args[0])
        return func(*args, **(kwargs or {}))

    def add(self, x: Tensor) -> None:
        """Add the units of ``x``, whose first axis is the batch (or windows of it, in order)."""
        if x.shape[0] % self.batch or x.numel() == 0:
            return
        # Compared before it is flattened: where that has to copy, it copies a byte a unit. NumPy's
        # comparison is the faster one, on the CPU.
        x = x.detach()
        quick = x.is_cpu and x.dtype in (torch.float32, torch.float64)
        on = torch.from_numpy(x.numpy() > 0) if quick else x > 0
        code = on.reshape(self.batch, -1)
        self.units += code.shape[1]
        if code.is_cpu:
            self._packed.append(np.packbits(code.numpy(), axis=1))
        else:
            for distance, part in zip(self._distance, code.chunk(len(self._distance)), strict=True):
                distance += _distance(part)

    @property
    def kernel(self) -> Tensor:
        """``K[i, j] = units - Hamming(i, j)`` ``[groups, B, B]``, float64, whole numbers."""
        if self._packed:
            parts = np.split(_words(self._packed), len(self._distance))
            for distance, part in zip(self._distance, parts, strict=True):
                distance += torch.from_numpy(_packed_distance(part))
            self._packed.clear()
        return self.units - self._distance


@functools.cache
def _unit(func: Any) -> str:
    """Return the name of a ReLU-like operation, or nothing for another one."""
    name: str = func.overloadpacket.__name__.removesuffix("_")
    return name if name in _UNITS else ""


def _words(packed: Sequence[np.ndarray]) -> np.ndarray:
    """Return bits ``[B, bytes]`` side by side, 64 a word ``[B, words]``, filled up by 0."""
    # A unit's bit stands at the same place in every row, and fillers agree: distances stay.
    rest = -sum(part.shape[1] for part in packed) % 8
    filler = np.zeros((len(packed[0]), rest), dtype=np.uint8)
    return np.concatenate([*packed, filler], axis=1).view(np.uint64)


def _packed_distance(words: np.ndarray) -> np.ndarray:
    """Return Hamming distances ``[B, B]``, float64, of bits ``[B, words]``."""
    distance = np.zeros((len(words), len(words)))
    # Hamming distances are bits that differ: XOR and count, a stretch of words that the cache holds
    # at a time, each image against those behind it (the matrix is symmetric, its diagonal 0).
    for start in range(0, words.shape[1], _WORDS):
        part = words[:, start : start + _WORDS]
        for i in range(len(part) - 1):
            differ = np.bitwise_count(part[i] ^ part[i + 1 :])
            distance[i, i + 1 :] += differ.sum(axis=1, dtype=np.uint32)
    return distance + distance.T


def _distance(code: Tensor) -> Tensor:
    """Return Hamming distances ``[B, B]`` of codes ``[B, units]`` by a matrix product."""
    # For codes of 0 and 1: |a - b|₁ = |a| + |b| - 2 a·b, where |a| stands on the diagonal of a·b. A
    # product in float32 is exact as long as no sum exceeds 2^24, hence the parts.
    both = torch.zeros(len(code), len(code), dtype=torch.float64, device=code.device)
    for part in torch.split(code, _EXACT, dim=1):
        ones = part.float()
        both += ones @ ones.T
    on = both.diagonal()
    return on[:, None] + on[None, :] - 2 * both
