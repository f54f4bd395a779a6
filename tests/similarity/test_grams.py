"""Gram parts: what is written is read back, what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zoo_search.errors import UserError
from zoo_search.similarity import grams, tiles
from zoo_search.similarity.estimators import Embedding, PairSums, get_metric
from zoo_search.store import RunStore


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
def test_a_part_comes_back_bit_for_bit_or_in_half_precision(tmp_path: Path, metric: str) -> None:
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
    assert sizes[0] - sizes[1] == rows.numel() * 2

    assert grams.find(store, {"a": "made", "b": "made"}, 6) == {"a": {4: header, 5: half}, "b": {}}
    assert grams.find(store, {"a": "made"}, 5) == {"a": {4: header}}
    assert grams.find(store, {"a": "otherwise"}, 6) == {"a": {}}


def test_parts_of_other_samples_are_refused_with_both_sides(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    embedded = [get_metric("cka").embed(torch.randn(8, 3))]
    a = put(store, "a", 0, "01234567", embedded)
    others = {
        "other ids": {0: put(store, "b", 0, "01234568", embedded)},
        "another size": {0: put(store, "b", 0, "0123456", embedded)},
        "missing": {1: put(store, "b", 1, "01234567", embedded)},
    }
    for b in others.values():
        with pytest.raises(
            UserError, match=r"'a' and 'b'.*grams/a/000000.*grams/b/000000"
        ) as error:
            grams.check_same({"a": {0: a}, "b": b})
        assert "\n" not in str(error.value)
    grams.check_same({"a": {0: a}, "b": {0: put(store, "b", 0, "01234567", embedded)}})


def test_a_part_that_is_replaced_or_broken_while_read_is_an_error(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    embedded = [get_metric("cka").embed(torch.randn(8, 3))]
    header = put(store, "a", 0, "01234567", embedded)
    put(store, "a", 0, "01234568", embedded)
    with pytest.raises(UserError, match="was replaced"):
        grams.read(store, header)
    store.write_bytes(grams.path_of("a", 0), b"PAR1")
    with pytest.raises(UserError, match=r"000000\.parquet cannot be read"):
        grams.read(store, header)


@pytest.mark.parametrize("metric", ["cka", "cka_biased", "lr"])
@pytest.mark.parametrize("fresh", [[1, 1, 1, 1], [0, 0, 1, 0], [1, 0, 0, 1]])
def test_tiles_give_what_the_whole_gives(tmp_path: Path, metric: str, fresh: list[int]) -> None:
    """Any budget, down to one model a tile; the reference multiplies all vectors in float64."""
    torch.manual_seed(1)
    store, estimator = RunStore(tmp_path), get_metric(metric)
    models = {name: 2 + i for i, name in enumerate("abcd")}
    headers: dict[str, dict[int, grams.Header]] = {name: {} for name in models}
    vectors = []
    for batch, n in enumerate((12, 9, 16)):
        found = []
        for name, count in models.items():
            embedded = [estimator.embed(torch.randn(n, 5)) for _ in range(count)]
            headers[name][batch] = put(store, name, batch, "x" * n, embedded)
            found += embedded
        rows = torch.stack([e.rows for e in found]).double()
        norms = torch.stack([e.norms for e in found])
        vectors.append((rows[:, 0] * norms[:, :1]) @ (rows[:, -1] * norms[:, -1:]).T)
    total = torch.stack(vectors).sum(0).numpy()
    if estimator.summed:
        total = total / np.sqrt(np.outer(total.diagonal(), total.diagonal()))
    else:
        total = total / 3

    mask = np.repeat(np.array(fresh, dtype=bool), list(models.values()))
    for budget in (1, 8_000, 10**9):
        sums, heard = PairSums(estimator, len(mask), mask), []
        tiles.add_batches(sums, store, headers, budget, on_batch=lambda h=heard: h.append(1))
        values = sums.values(np.full_like(total, 7))
        wanted = mask[:, None] | mask[None, :]
        off = ~np.eye(len(mask), dtype=bool)
        assert np.abs(values - total)[wanted & off].max() < 1e-5
        assert (values[~wanted] == 7).all()
        assert len(heard) == 3
