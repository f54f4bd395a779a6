"""Estimators from features, without Gram matrices."""

from __future__ import annotations

import pytest
import torch

from zoo_search.similarities.estimators import feature_space
from zoo_search.similarities.estimators.feature_space import (
    biased_products,
    is_cheaper,
    unbiased_products,
)
from zoo_search.similarities.estimators.kernels import u_centre


def hsic1(k: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """Song et al. 2012, Eq. 5, by the inner product of U-centred matrices."""
    return (u_centre(k) * u_centre(m)).sum() / (len(k) * (len(k) - 3))


@pytest.mark.parametrize("strip", [1, 20, 1000])
def test_unbiased_products_are_hsic1(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_space, "_STRIP", strip)
    generator = torch.Generator().manual_seed(0)
    features = [
        torch.randn(25, d, generator=generator, dtype=torch.float64) * d + 2 for d in (1, 3, 9, 40)
    ]
    expected = [[hsic1(x @ x.T, y @ y.T) for y in features] for x in features]
    assert torch.allclose(unbiased_products(features), torch.tensor(expected))


def test_a_feature_that_does_not_vary_gives_zero() -> None:
    features = [torch.randn(10, 3), torch.full((10, 2), 5.1)]
    for products in (unbiased_products(features), biased_products(features)):
        assert products[1].tolist() == [0, 0]
        assert products[0, 0] > 0


def test_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        unbiased_products([torch.randn(3, 2)])


def test_features_for_few_narrow_cuts_grams_for_wide_ones_or_many() -> None:
    assert is_cheaper(1024, [64] * 20)
    assert is_cheaper(4096, [64] * 20)
    assert not is_cheaper(256, [512] * 20)
    assert not is_cheaper(1024, [64] * 500)
    assert not is_cheaper(256, [64 * 56 * 56, 512 * 7 * 7])
