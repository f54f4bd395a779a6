"""One Gram file: what is written is read back, what is not what it should be is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.similarities.estimators.registry import Embedding, get_metric
from zoo_search.similarities.passes import grams


def put(
    store: RunStore,
    model: str,
    batch: int,
    ids: str,
    embedded: list[Embedding],
    dtype: str = "float32",
) -> grams.Header:
    header, data = grams.encode(model, "made", batch, list(ids), embedded, dtype)
    store.write_bytes(grams.path_of(model, batch), data)
    return header


@pytest.mark.parametrize("metric", ["cka", "lr"])
def test_a_file_comes_back_bit_for_bit_or_in_half_precision(tmp_path: Path, metric: str) -> None:
    store, embed = RunStore(tmp_path), get_metric(metric).embed
    torch.manual_seed(0)
    embedded = [embed(torch.randn(9, d)) for d in (3, 20)]
    embedded.append(embed(torch.ones(9, 4)))  # a constant feature: a zero vector
    header = put(store, "a", 4, "012345678", embedded)
    rows, norms = grams.read(store, header)
    assert torch.equal(rows, torch.stack([e.rows for e in embedded]))
    assert torch.equal(norms, torch.stack([e.norms for e in embedded]))
    assert header.bytes == rows.numel() * 4

    half = put(store, "a", 5, "012345678", embedded, "float16")
    close, norms_half = grams.read(store, half)
    assert (close - rows).abs().max() < 1e-3
    assert torch.equal(norms_half, norms)
    sizes = [len(store.read_bytes(grams.path_of("a", batch))) for batch in (4, 5)]
    # Checksums are written in as few bytes as they need.
    assert abs(sizes[0] - sizes[1] - rows.numel() * 2) <= 8


def test_a_file_that_is_replaced_or_broken_while_read_is_an_error(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    embedded = [get_metric("cka").embed(torch.randn(8, 3))]
    header = put(store, "a", 0, "01234567", embedded)
    put(store, "a", 0, "01234568", embedded)
    with pytest.raises(UserError, match="was replaced"):
        grams.read(store, header)
    store.write_bytes(grams.path_of("a", 0), b"PAR1")
    with pytest.raises(UserError, match=r"000000\.parquet is damaged"):
        grams.read(store, header)
