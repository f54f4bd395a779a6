"""Ridge regression against closed forms of other kinds."""

import pytest
import torch
from small_cuts import CUTS, tensor_at

from zoo_search.linegraph import from_nchw, to_nchw
from zoo_search.networks import Stitch
from zoo_search.networks.ridge import Moments, fit_ridge, solve_ridge
from zoo_search.networks.stitch_fit import fit_stitch


def test_ridge_is_the_closed_form_and_least_squares_without_a_penalty():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 9, generator=generator, dtype=torch.float64) @ torch.randn(
        9, 9, generator=generator, dtype=torch.float64
    )
    y = torch.randn(200, 4, generator=generator, dtype=torch.float64) + 3
    moments = Moments(9, 4)
    for chunk in torch.arange(200).split(37):
        moments.add(x[chunk], y[chunk])
    ones = torch.cat([x, torch.ones(200, 1, dtype=torch.float64)], dim=1)
    plain = torch.linalg.lstsq(ones, y).solution
    weight, bias = solve_ridge(moments, 0.0)
    torch.testing.assert_close(weight.T, plain[:-1])
    torch.testing.assert_close(bias, plain[-1])
    # Ridge as least squares on centred data with rows sqrt(penalty) below.
    alpha = 0.3
    centred = x - x.mean(0)
    penalty = alpha * (centred**2).sum() / 9
    below = penalty.sqrt() * torch.eye(9, dtype=torch.float64)
    stacked = torch.cat([centred, below])
    target = torch.cat([y - y.mean(0), torch.zeros(9, 4, dtype=torch.float64)])
    weight, bias = solve_ridge(moments, alpha)
    torch.testing.assert_close(weight.T, torch.linalg.lstsq(stacked, target).solution)
    torch.testing.assert_close(bias, y.mean(0) - weight @ x.mean(0))
    assert moments.error(weight, bias) == pytest.approx(
        float(((y - x @ weight.T - bias) ** 2).sum()), rel=1e-10
    )


def test_the_penalty_is_the_one_that_predicts_the_held_out_part():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 40, generator=generator, dtype=torch.float64)
    y = x[:, :1] + 2 * torch.randn(60, 1, generator=generator, dtype=torch.float64)
    train, test = Moments(40, 1), Moments(40, 1)
    train.add(x[:45], y[:45])
    test.add(x[45:], y[45:])
    alphas = (1e-8, 1e-2, 1.0, 10.0)
    errors = {}
    for alpha in alphas:
        weight, bias = solve_ridge(train, alpha)
        errors[alpha] = float(((y[45:] - x[45:] @ weight.T - bias) ** 2).sum())
    fit = fit_ridge(train, test, alphas)
    assert fit.alpha == min(errors, key=errors.__getitem__)
    spread = float(((y[45:] - y[45:].mean()) ** 2).sum())
    assert fit.r2 == pytest.approx(1 - errors[fit.alpha] / spread)


def test_constant_features_give_the_mean():
    train = Moments(3, 2)
    train.add(torch.ones(8, 3), torch.arange(16.0).view(8, 2))
    fit = fit_ridge(train)
    assert torch.equal(fit.weight, torch.zeros(2, 3, dtype=torch.float64))
    assert fit.bias.tolist() == [7.0, 8.0]


@pytest.mark.parametrize("cut", CUTS)
def test_between_a_net_and_itself_it_is_the_identity(cut):
    batches = [tensor_at(cut, 40, seed) for seed in range(3)]
    stitch = Stitch(cut, cut)
    assert fit_stitch(stitch, zip(batches, batches, strict=True)) > 0.9999
    x = tensor_at(cut, 5, seed=9)
    torch.testing.assert_close(stitch(x), x, atol=2e-3, rtol=1e-3)


def test_a_known_map_is_found_again():
    before, after = CUTS[3], CUTS[2]
    known = Stitch(before, after)
    batches = [tensor_at(before, 16, seed) for seed in range(3)]
    found = Stitch(before, after)
    fit_stitch(found, [(x, known(x).detach()) for x in batches])
    torch.testing.assert_close(found.map.weight, known.map.weight, atol=1e-4, rtol=1e-3)
    grid, prefix = to_nchw(found(batches[0]), after)
    assert torch.equal(from_nchw(grid, prefix, after), found(batches[0]))


def test_a_sample_of_the_weight_two_counts_as_two():
    draw = torch.Generator().manual_seed(3)
    x, y = torch.randn(20, 4, generator=draw), torch.randn(20, 2, generator=draw)
    counts = torch.randint(1, 4, (20,), generator=draw)
    repeated, weighted = Moments(4, 2), Moments(4, 2)
    repeated.add(x.repeat_interleave(counts, 0), y.repeat_interleave(counts, 0))
    weighted.add_weighted(x, y, counts)
    assert weighted.n == repeated.n
    for name in ("x", "y", "xx", "xy"):
        assert torch.allclose(getattr(weighted, name), getattr(repeated, name))
    for mine, theirs in zip(solve_ridge(weighted, 0.1), solve_ridge(repeated, 0.1), strict=True):
        assert torch.allclose(mine, theirs)
