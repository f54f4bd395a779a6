"""Vectors in half the bytes."""

from __future__ import annotations

import torch

from zoo_search.similarities.passes.grams import dequantise, quantise


def test_stored_vectors_are_unit_again_and_close() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(5, 2, 9000, generator=generator) ** 3, dim=-1)
    rows[3, 1] = 0
    stored = quantise(rows)
    assert stored.dtype == torch.float16
    back = dequantise(stored)
    lengths = torch.linalg.vector_norm(back.double(), dim=-1)
    assert (lengths - 1).abs().flatten().sort().values[:-1].max() < 1e-5
    assert (back[3, 1] == 0).all()
    error = (back[..., None, :] @ rows[..., :, None]).flatten()
    assert (error[error > 0] - 1).abs().max() < 1e-5
    bf16 = rows.bfloat16().float()
    assert (back - rows).norm() < 0.2 * (bf16 - rows).norm()
