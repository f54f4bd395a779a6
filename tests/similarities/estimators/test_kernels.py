"""Gram matrices, centring and packing, against what they are by definition."""

from __future__ import annotations

import pytest
import torch

from zoo_search.similarities.estimators import kernels
from zoo_search.similarities.estimators.kernels import (
    Gram,
    fold,
    linear_gram,
    rbf_gram,
    u_centre,
)


def symmetric(n: int, seed: int) -> torch.Tensor:
    x = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x + x.T


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 13, 64])
@pytest.mark.parametrize("diagonal", [True, False])
def test_a_vector_holds_each_entry_once(n: int, diagonal: bool) -> None:
    k, m = symmetric(n, 0), symmetric(n, 1)
    a, b = fold(Gram.of(k), diagonal), fold(Gram.of(m), diagonal)
    assert len(a) == n * (n + 1) / 2 if diagonal else n * (n - 1) / 2
    if not diagonal:
        k, m = k.clone().fill_diagonal_(0), m.clone().fill_diagonal_(0)
        rows, columns = torch.triu_indices(n, n, 1)
        assert a.sort().values.tolist() == k[rows, columns].sort().values.tolist()
    assert torch.allclose(2 * a @ b, (k * m).sum())


@pytest.mark.parametrize("n", [4, 5, 12, 33])
@pytest.mark.parametrize("d", [1, 7, 60])
def test_the_short_way_of_u_centring_is_u_centring(n: int, d: int) -> None:
    x = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d)) + 3
    gram = linear_gram(x)
    y = (x - x.mean(dim=0)) / x.abs().max()
    assert torch.allclose(gram.whole(), y @ y.T)
    gram.u_centre()
    expected = u_centre(y @ y.T)
    assert torch.allclose(gram.whole().fill_diagonal_(0), expected)
    assert expected.sum(dim=0).abs().max() < 1e-12


def test_blocks_of_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(20, 70, dtype=torch.float64)
    expected = linear_gram(x).whole()
    monkeypatch.setattr(kernels, "_BLOCK", 20 * 9)
    assert torch.allclose(linear_gram(x).whole(), expected)


def test_a_column_without_variation_is_zero() -> None:
    x = torch.randn(10, 3)
    x[:, 1] = 1000.1
    (block,) = kernels.centred(x)
    assert (block[:, 1] == 0).all()
    assert (block[:, [0, 2]] != 0).any()


def test_the_bandwidth_of_rbf_is_the_median_distance() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [3.0]], dtype=torch.float64)
    # Distances of pairs that differ: 1, 2, 2, 3, 3; the median is 2.
    gram = rbf_gram(x)
    assert gram[0, 1].item() == pytest.approx(torch.e ** (-1 / 8))
    assert gram[0, 2].item() == pytest.approx(torch.e ** (-9 / 8))
    assert gram[2, 3].item() == pytest.approx(1)
    assert (rbf_gram(torch.ones(5, 2)) == 1).all()
