"""The metrics beyond what ``tests/testing/test_metrics.py`` holds of each of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from similarities.references import REFERENCES, song_hsic1

from zoo_search.core.errors import UserError
from zoo_search.similarities.estimators.kernels import u_centre
from zoo_search.similarities.estimators.registry import get_metric


@pytest.fixture(scope="module")
def real_maps() -> list[torch.Tensor]:
    """Maps of five cuts of a network on 120 digits."""
    import timm
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", features_only=True).eval()
    images = torch.tensor(load_digits().images[:120] / 16, dtype=torch.float32)
    images = images[:, None].expand(-1, 3, -1, -1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        maps: list[torch.Tensor] = model(images)
    return maps


def test_one_full_batch_is_the_closed_form_of_unbiased_cka(pairwise) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 8))
    y = x @ rng.normal(size=(8, 20)) + rng.normal(size=(50, 20))
    found = pairwise([[torch.tensor(x), torch.tensor(y)]])[0, 1]
    assert found == pytest.approx(REFERENCES["cka"]([x], [y]), abs=1e-6)


def test_a_full_batch_of_real_features_is_the_closed_form(pairwise, real_maps) -> None:
    features = [m.mean((2, 3)) for m in real_maps]
    grams = [x.double().numpy() @ x.double().numpy().T for x in features]
    hsic = np.array([[song_hsic1(k, m) for m in grams] for k in grams])
    expected = hsic / np.sqrt(np.outer(hsic.diagonal(), hsic.diagonal()))
    assert np.abs(pairwise([features]) - expected).max() < 1e-5


def test_products_of_u_centred_matrices_are_song_et_al() -> None:
    rng = np.random.default_rng(1)
    k, m = (a @ a.T for a in rng.normal(size=(2, 12, 5)))
    inner = (u_centre(torch.tensor(k)) * u_centre(torch.tensor(m))).sum() / (12 * 9)
    assert float(inner) == pytest.approx(song_hsic1(k, m))
    assert u_centre(torch.tensor(k)).sum(dim=0).abs().max() < 1e-10


@pytest.mark.parametrize("n", [1, 3])
def test_u_centring_refuses_fewer_than_four(n: int) -> None:
    with pytest.raises(ValueError, match="at least 4"):
        u_centre(torch.ones(n, n))


def test_independent_features_read_zero_where_the_biased_estimator_reads_one(pairwise) -> None:
    """n = 64, d = 512: the fact that made the unbiased estimator the default."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x, y = torch.randn(2, 64, 512, generator=generator)
        assert abs(pairwise([[x, y]], "cka")[0, 1]) < 0.05
        assert pairwise([[x, y]], "cka_biased")[0, 1] == pytest.approx(0.89, abs=0.02)


def test_values_are_not_clipped(pairwise) -> None:
    generator = torch.Generator().manual_seed(0)
    values = pairwise([list(torch.randn(20, 64, 512, generator=generator))])
    assert values.min() < 0


def test_a_large_mean_does_not_drown_the_variation(pairwise) -> None:
    x, y = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0))
    assert np.abs(pairwise([[x + 1000, y]]) - pairwise([[x, y]])).max() < 1e-3


@pytest.mark.parametrize("metric", ["cka", "cka_biased", "rbf_cka"])
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(4, 24),
    d=st.integers(1, 12),
    scale=st.floats(1e-3, 1e3),
)
def test_invariant_to_rotation_scale_and_shift(pairwise, metric, seed, n, d, scale) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    y = x + torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    shift = torch.randn(d, generator=generator, dtype=torch.float64)
    moved = [[scale * a @ turn + shift, b] for a, b in zip(x, y, strict=True)]
    plain = [[a, b] for a, b in zip(x, y, strict=True)]
    assert np.abs(pairwise(moved, metric) - pairwise(plain, metric)).max() < 1e-5


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), d=st.integers(1, 8))
def test_lr_is_invariant_to_any_invertible_map_of_the_predictor(
    pairwise, seed: int, d: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 30, d, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    mix = turn * torch.linspace(0.5, 2, d, dtype=torch.float64)
    assert np.abs(pairwise([[x @ mix, y]], "lr") - pairwise([[x, y]], "lr"))[0, 1] < 1e-5


def test_an_unknown_metric_names_the_nearest(pairwise) -> None:
    with pytest.raises(UserError, match="Did you mean 'cka_biased'"):
        get_metric("cka_bias")
