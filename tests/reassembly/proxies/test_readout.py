"""What the proxies of pooled features have in common."""

import pytest
import torch

from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.cache import TensorCache
from zoo_search.networks.parents import Parents
from zoo_search.reassembly.proxies import Batches, score

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 10)))

WHOLE = Recipe.whole("cnn", 12)

LABELS = torch.arange(64) % 4


def test_features_tell_separable_from_random_labels(zoo, images):
    net = assemble(WHOLE, zoo, "random", num_classes=2)
    labels = torch.arange(len(images)) % 2
    shifted = images // 2 + (labels * 127).to(torch.uint8)[:, None, None, None]
    right, wrong = (
        Batches(shifted, labels, zoo=Parents(zoo)),
        Batches(images, labels, zoo=Parents(zoo)),
    )
    assert score(net, "probe", right) > 0.5
    assert score(net, "probe", wrong) < 0.3
    for name in ("logme", "leep"):
        assert score(net, name, right) > score(net, name, wrong)


def test_one_forward_pass_serves_all_that_read_features(zoo, images):
    net = assemble(WHOLE, zoo, "random", num_classes=4)
    passes = []
    net.blocks[0].register_forward_hook(lambda _m, args, _out: passes.append(len(args[0])))
    names = ("probe", "logme", "leep")
    alone = [score(net, name, Batches(images, LABELS, zoo=Parents(zoo))) for name in names]
    assert sum(passes) == 3 * 64
    passes.clear()
    batches = Batches(images, LABELS, cache=TensorCache(2**26), zoo=Parents(zoo))
    assert [score(net, name, batches) for name in names] == alone
    assert sum(passes) == 64
    kept = assemble(Recipe.whole("cnn", 12, "source"), zoo)
    assert [score(kept, name, batches) for name in names] == pytest.approx(alone)
