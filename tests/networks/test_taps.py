"""Heads that read every block: the forward pass by hand, its halves, and how the head starts."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.groups import head_scales
from zoo_search.networks.network import Pool
from zoo_search.networks.ridge import fit_ridge, split_moments
from zoo_search.training.images import InMemory
from zoo_search.training.machine import HERE, channels_last
from zoo_search.training.prefix import features_of, frozen_blocks

LAST = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("swin", 2, 4)))
TAPPED = Recipe(LAST.blocks, "target", "blocks")
WHOLE = Recipe((BlockRef("vit", 0, 1), BlockRef("vit", 1, 3), BlockRef("vit", 3, 4)), taps="blocks")


def by_hand(net, graphs, x):
    """The logits, block by block, on the graphs of the zoo."""
    read = []
    for number, block in enumerate(net.recipe.blocks):
        x = net.stitches[number - 1](x) if number else x
        for node in graphs[block.model].nodes[block.start : block.stop]:
            x = node.module(x.clone())
        read.append(Pool(graphs[block.model].cuts[block.stop])(x).clone())
    return nn.functional.linear(torch.cat(read, 1), net.head.weight, net.head.bias)


@pytest.mark.parametrize("recipe", [TAPPED, WHOLE], ids=["mixed", "whole"])
def test_the_head_reads_what_every_block_gives(zoo, images, recipe):
    graphs = {name: model.graph for name, model in zoo.items()}
    net = assemble(recipe, zoo, "random", num_classes=5)
    x = net.transform.normalize(images[:3])
    with torch.no_grad():
        logits = net(x)
        assert torch.equal(logits, by_hand(net, graphs, x))
        for blocks in range(1, len(recipe.blocks) + 1):
            torch.testing.assert_close(net.after(net.before(x, blocks), blocks), logits)
    assert isinstance(net.head, nn.Linear)
    assert net.head.in_features == sum(net.widths)
    with pytest.raises(ValueError, match="reads 2 more blocks"):
        net.forward_head(net.forward_features(x))


def test_cached_features_of_the_frozen_prefix_give_the_same_bits(zoo, images):
    """Of a prefix of two blocks, one of which is read on the way."""
    blocks = (BlockRef("cnn", 0, 2), BlockRef("cnn", 2, 4), BlockRef("vit", 1, 4))
    net = assemble(Recipe(blocks, taps="blocks"), zoo, "random", num_classes=5)
    assert frozen_blocks(net) == 2
    labels = torch.zeros(len(images), dtype=torch.long)
    kept = features_of(net, 2, InMemory(images, labels), net.transform.normalize, HERE)
    with torch.no_grad():
        for chunk in torch.arange(len(images)).split(64):
            x = channels_last(net.transform.normalize(images[chunk]))
            assert torch.equal(net.after(kept.images[chunk], 2), net(x))


def test_the_head_starts_from_ridge_regression_on_the_scaled_features(zoo, images):
    """Against scikit-learn's, at the same penalty; the numbers are folded into the weights."""
    labels = torch.arange(len(images)) % 4
    net = assemble(TAPPED, zoo, "least_squares", images, labels, seed=1)
    with torch.no_grad():
        features, taps = net.read(net.transform.normalize(images))
        x = net.pooled(features, taps).double()
    hot = nn.functional.one_hot(labels).double()
    scales = head_scales(x, hot, net.widths)
    z = x * scales
    fit = fit_ridge(*split_moments(z, hot))
    penalty = fit.alpha * float((z - z.mean(0)).square().sum()) / z.shape[1]
    ridge = Ridge(penalty).fit(z.numpy(), hot.numpy())
    expected = torch.from_numpy(ridge.predict(z.numpy()))
    got = net.head(x.float()).detach().double()
    # Logits are the regression's answers times an inverse temperature.
    centred = [v - v.mean(0) for v in (got, expected)]
    factor = float((centred[0] * centred[1]).sum() / centred[1].square().sum())
    torch.testing.assert_close(centred[0], factor * centred[1], rtol=1e-2, atol=1e-2 * factor)


def test_keys_say_what_the_head_reads_only_where_it_is_more(zoo):
    other = Recipe((BlockRef("vit", 0, 2), BlockRef("vit", 2, 4)))
    assert Recipe.whole("vit", 4).key == other.key
    assert WHOLE.key not in (other.key, Recipe(other.blocks, taps="blocks").key)
    assert Recipe((BlockRef("vit", 0, 4),), taps="blocks").key == other.key
    assert "taps" not in LAST.to_dict()
    # Of a version that knew no taps.
    assert LAST.key == KEY_BEFORE
    assert Recipe.from_any(TAPPED.to_dict()) == TAPPED
    assert "taps: blocks" in TAPPED.to_yaml()


KEY_BEFORE = "e1425be017c3eec4"


def test_what_cannot_be_read_is_refused(zoo):
    plain = TAPPED.to_dict()
    with pytest.raises(UserError, match="'taps' is 'all'; allowed are 'last'"):
        Recipe.from_any({**plain, "taps": "all"})
    with pytest.raises(UserError, match=r"head: source.*leave 'taps' out"):
        Recipe.from_any({**plain, "head": "source"})
    with pytest.raises(UserError, match=r"unknown key 'tap'.*'taps'"):
        Recipe.from_any({**plain, "tap": "blocks"})
    with pytest.raises(UserError, match="takes what the last block gives"):
        Recipe((BlockRef("vit", 0, 4),), "source", "blocks").check(zoo)
