"""Unit vectors in half the bytes: what Gram files hold."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["BYTES", "dequantise", "quantise"]

BYTES = 2
"""Bytes of a stored entry."""

_CACHED = 1 << 18


def quantise(rows: Tensor) -> Tensor:
    """Return vectors ``[..., v]`` as float16, each over its largest entry.

    The scale is not kept: :func:`dequantise` gives unit vectors, whatever the length was.
    """
    largest = rows.abs().amax(dim=-1, keepdim=True)
    return (rows / largest.where(largest > 0, 1.0)).to(torch.float16)


def dequantise(stored: Tensor) -> Tensor:
    """Return the float32 unit vectors ``[..., v]`` of what :func:`quantise` made; 0 stays 0."""
    out = torch.empty(stored.shape, dtype=torch.float32, device=stored.device)
    rows, halves = out.view(-1, out.shape[-1]), stored.reshape(-1, out.shape[-1])
    # A few vectors at a time, so that what is converted is still in the cache when it is scaled.
    step = max(_CACHED // max(out.shape[-1], 1), 1)
    for part, half in zip(torch.split(rows, step), torch.split(halves, step), strict=True):
        part.copy_(half)
        lengths = torch.linalg.vector_norm(part, dim=-1, keepdim=True)
        part.div_(lengths.where(lengths > 0, 1.0))
    return out
