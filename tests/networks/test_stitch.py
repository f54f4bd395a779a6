"""The layer at a joint, between every pair of layouts."""

import itertools

import pytest
import torch
from small_cuts import CUTS, tensor_at
from torch import nn

from zoo_search.linegraph import count, to_nchw
from zoo_search.networks import Stitch
from zoo_search.networks.stitch import resize, stitch_cost


@pytest.mark.parametrize(("before", "after"), list(itertools.product(CUTS, CUTS)))
def test_every_pair_of_layouts_gives_the_traced_shape(before, after):
    stitch = Stitch(before, after).reset(torch.Generator().manual_seed(0))
    out = stitch(tensor_at(before, 2))
    assert out.shape == (2, *after.shape)
    assert count(stitch, before.shape) == stitch_cost(before, after)
    out.sum().backward()
    assert all(p.grad is not None for p in stitch.parameters())


@pytest.mark.parametrize(("before", "after"), list(itertools.product(CUTS, CUTS)))
def test_the_map_commutes_with_the_change_of_grid(before, after):
    """Which grid the convolution runs on is a matter of cost only."""
    stitch = Stitch(before, after).double()
    x = tensor_at(before, 2).double()
    grid, _ = to_nchw(x, before)
    late, _ = to_nchw(stitch(x), after)
    torch.testing.assert_close(late, stitch.map(resize(grid, after.grid)))
    torch.testing.assert_close(late, resize(stitch.map(grid), after.grid))


def test_resize_shrinks_by_area_and_grows_bilinearly():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    by_hand = torch.tensor([[2.5, 4.5], [10.5, 12.5]]).view(1, 1, 2, 2)
    assert torch.equal(resize(x, (2, 2)), by_hand)
    grown = nn.functional.interpolate(x, size=(9, 9), mode="bilinear", align_corners=False)
    assert torch.equal(resize(x, (9, 9)), grown)
    assert resize(x, (4, 4)) is x


def test_prefix_tokens_come_from_their_own_token_or_from_the_mean():
    before, after = CUTS[4], CUTS[5]
    stitch = Stitch(before, after)
    x = tensor_at(before, 3)
    _, tokens = to_nchw(stitch(x), after)
    assert tokens is not None
    torch.testing.assert_close(tokens[:, 0], stitch.prefix[0](x[:, 0]))
    torch.testing.assert_close(tokens[:, 2], stitch.prefix[2](x[:, 1:].mean(1)))
