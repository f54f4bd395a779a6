"""Maps that keep the spread of their targets, against singular values and on held-out images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_cuts import CUTS
from torch import Tensor

from zoo_search.linegraph import Cut
from zoo_search.networks.assemble import assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.recipe import BlockRef, Recipe
from zoo_search.networks.ridge import solve_ridge
from zoo_search.networks.spread import POWER, PairedMoments, keep_spread
from zoo_search.networks.stitch import Stitch
from zoo_search.networks.stitch_fit import fit_stitch


def sample(inputs: int, outputs: int, count: int = 300) -> tuple[Tensor, Tensor]:
    """Return correlated inputs, and targets that they explain in part."""
    random = torch.Generator().manual_seed(inputs + outputs)
    mix = torch.randn(inputs, inputs, generator=random, dtype=torch.float64)
    x = torch.randn(count, inputs, generator=random, dtype=torch.float64) @ mix + 2
    known = x @ torch.randn(inputs, outputs, generator=random, dtype=torch.float64)
    noise = torch.randn(count, outputs, generator=random, dtype=torch.float64)
    return x, known + noise * known.std() * torch.linspace(0.1, 3, outputs) - 1


def moments_of(x: Tensor, y: Tensor) -> PairedMoments:
    moments = PairedMoments(x.shape[1], y.shape[1])
    for some_x, some_y in zip(x.split(70), y.split(70), strict=True):
        moments.add(some_x, some_y)
    return moments


def root(matrix: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**power) @ vectors.T


@pytest.mark.parametrize(("inputs", "outputs"), [(7, 5), (4, 9)])
@pytest.mark.parametrize("power", [1.0, 0.4, 0.0])
def test_gains_are_powers_of_canonical_correlations(inputs: int, outputs: int, power: float):
    x, y = sample(inputs, outputs)
    alpha = 0.01
    weight, bias = keep_spread(moments_of(x, y), alpha, power)
    # By symmetric roots and a whole singular value decomposition, from the centred samples.
    cx, cy = (np.asarray(z - z.mean(0)) for z in (x, y))
    sxx = cx.T @ cx + alpha * (cx**2).sum() / inputs * np.eye(inputs)
    syy = cy.T @ cy
    u, d, v = np.linalg.svd(root(syy, -0.5) @ cy.T @ cx @ root(sxx, -0.5), full_matrices=False)
    assert d.max() < 1
    wanted = root(syy, 0.5) @ u @ np.diag(d**power) @ v @ root(sxx, -0.5)
    np.testing.assert_allclose(weight, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bias, y.mean(0) - weight @ x.mean(0), rtol=1e-7, atol=1e-9)


def test_power_1_is_ridge_and_power_0_has_the_spread_of_the_targets():
    x, y = sample(7, 5)
    moments = moments_of(x, y)
    ridge = solve_ridge(moments, 0.1)
    for found, wanted in zip(keep_spread(moments, 0.1, 1.0), ridge, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    spreads = []
    for power in (1.0, 0.4, 0.0):
        weight, bias = keep_spread(moments, 0.0, power)
        out = x @ weight.T + bias
        torch.testing.assert_close(out.mean(0), y.mean(0))
        spreads.append(out.T.cov())
    torch.testing.assert_close(spreads[2], y.T.cov(), rtol=1e-5, atol=1e-5)
    shares = [spread.diagonal() / y.T.cov().diagonal() for spread in spreads]
    assert bool((shares[0] < shares[1]).all() & (shares[1] < shares[2]).all())


@pytest.mark.parametrize("power", [1.0, 0.4, 0.0])
def test_a_perfect_map_stays_what_it_is(power: float):
    x, _ = sample(6, 6)
    known = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weight, bias = keep_spread(moments_of(x, x @ known.T + 5), 0.0, power)
    torch.testing.assert_close(weight, known, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x @ weight.T + bias, x @ known.T + 5, rtol=1e-5, atol=1e-5)


def test_constant_channels_and_fewer_samples_than_channels_do_no_harm():
    x, y = sample(6, 5, 8)
    x[:, 2], y[:, 1] = 4.0, 7.0
    weight, bias = keep_spread(moments_of(x, y), 0.1)
    assert bool(weight.isfinite().all())
    torch.testing.assert_close(weight[1], torch.zeros(6, dtype=torch.float64), atol=1e-6, rtol=0)
    assert float(bias[1]) == pytest.approx(7, abs=1e-5)
    weight, bias = keep_spread(moments_of(torch.ones_like(x), y), 0.1)
    assert torch.equal(weight, torch.zeros(5, 6, dtype=torch.float64))
    torch.testing.assert_close(bias, y.mean(0))
    weight, _ = keep_spread(moments_of(x, torch.ones_like(y)), 0.1)
    assert torch.equal(weight, torch.zeros(5, 6, dtype=torch.float64))


def test_where_rounding_leaves_no_spread_it_is_ridge():
    moments = moments_of(*sample(6, 5))
    moments.outer[0, 0] -= 1.5 * moments.target_covariance()[0, 0]
    for found, wanted in zip(keep_spread(moments, 0.1), solve_ridge(moments, 0.1), strict=True):
        assert torch.equal(found, wanted)


def test_with_few_images_the_next_block_does_better_on_others():
    # Another net's features tell half of what this one's do; the next layer fires on strong ones.
    random = torch.Generator().manual_seed(0)
    cut = Cut(1, "a", "nchw", 24, (4, 4))
    known = torch.randn(24, 24, 1, 1, generator=random) / 24**0.5
    layer = torch.randn(48, 24, 1, 1, generator=random) / 24**0.5
    readout = torch.randn(10, 48, generator=random)

    def images(count: int) -> tuple[Tensor, Tensor]:
        y = torch.randn(count, 24, 4, 4, generator=random)
        x = torch.nn.functional.conv2d(y, known)
        return x + torch.randn(x.shape, generator=random), y

    def classes(y: Tensor) -> Tensor:
        fired = (torch.nn.functional.conv2d(y, layer) - 1).relu()
        return (fired.mean((2, 3)) @ readout.T).argmax(1)

    few, (x, y) = [images(40)], images(4000)
    right = {}
    for power in (1.0, POWER):
        stitch = Stitch(cut, cut)
        fit_stitch(stitch, few, power=power)
        with torch.no_grad():
            right[power] = float((classes(stitch(x)) == classes(y)).float().mean())
    assert right[POWER] > right[1.0] + 0.03


def test_prefix_tokens_keep_their_spread_too():
    cut = next(cut for cut in CUTS if cut.prefix_tokens)
    random = torch.Generator().manual_seed(1)
    wanted = torch.randn(400, *cut.shape, generator=random)
    given = wanted + torch.randn(wanted.shape, generator=random)
    spreads = []
    for power in (1.0, 0.4):
        stitch = Stitch(cut, cut)
        fit_stitch(stitch, [(given, wanted)], power=power)
        with torch.no_grad():
            spreads.append(float(stitch(given)[:, 0].var(0).mean()))
    assert spreads[0] < spreads[1] < 1.1


class Kept:
    """A keeper that says what it was given."""

    def __init__(self) -> None:
        self.joints: list[object] = []

    def get(self, joint: object) -> None:
        assert joint not in self.joints

    def put(self, joint: object, *_: object) -> None:
        self.joints.append(joint)


def test_a_fitter_holds_stitches_of_both_kinds_and_keeps_the_usual_ones(zoo, images):
    prefix, after = (BlockRef("cnn", 0, 3),), BlockRef("swin", 1, 8)
    keeper = Kept()
    usual = StitchFitter(zoo, images[:32], keeper=keeper)
    spread = usual.keeping(POWER)
    assert spread is usual.keeping(POWER) is usual.keeping(1.0).keeping(POWER)
    with torch.no_grad():
        maps = [fitter.stitch(prefix, after).map.weight.norm() for fitter in (spread, usual)]
    assert float(maps[0]) > float(maps[1])
    assert spread.quality(prefix, after) == usual.quality(prefix, after)
    assert len(keeper.joints) == 1
    # What comes after two joints differs, too.
    blocks = (*prefix, after)
    gives = [torch.cat(list(fitter.prefix(blocks))) for fitter in (spread, usual)]
    assert not torch.equal(*gives)
    torch.testing.assert_close(torch.cat(list(usual.prefix(blocks))), gives[1], atol=0, rtol=0)


def test_a_head_that_stays_gets_the_spread_that_it_is_used_to(zoo, images):
    blocks = (BlockRef("cnn", 0, 3), BlockRef("swin", 1, len(zoo["swin"].graph)))
    fitter = StitchFitter(zoo, images[:32])
    for head, expected in (("source", fitter.keeping(POWER)), ("target", fitter)):
        net = assemble(Recipe(blocks, head), zoo, num_classes=3, fitter=fitter)
        wanted = expected.stitch(blocks[:1], blocks[1]).map.weight
        assert torch.equal(net.stitches[0].map.weight, wanted)


def test_neighbours_of_one_model_stay_exact(zoo, images):
    end = len(zoo["swin"].graph)
    blocks = (BlockRef("swin", 0, 3), BlockRef("swin", 3, end))
    net = assemble(Recipe(blocks, "source"), zoo, images=images[:32])
    x = net.transform.normalize(images[:4])
    with torch.no_grad():
        assert torch.equal(net(x), zoo["swin"].module(x))
