"""Fewer images at once where a device's memory does not hold them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

__all__ = ["out_of_memory", "with_fewer_images"]

T = TypeVar("T")
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "not enough memory",
    "Cannot allocate memory",
    "could not create a primitive",  # oneDNN, which gives no other reason
    "could not create a memory",
)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory, of the device or of the machine, ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error) for w in _NO_MEMORY)


def with_fewer_images(run: Callable[[int], T], size: int) -> tuple[T, int]:
    """Call ``run`` with ``size`` images at once, with half of them where memory runs out, and on.

    Returns:
        What ``run`` gave, and the size that it gave it with.

    Raises:
        RuntimeError: What ``run`` raised, if a single image does not fit, or it is no lack of
            memory.
    """
    while True:
        try:
            return run(size), size
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        # Only here is the error gone, and with it the tensors that its frames hold.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = max(1, size // 2)
