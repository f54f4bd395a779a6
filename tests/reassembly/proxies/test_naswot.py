"""NASWOT against its definition, written out in numpy and float64."""

import numpy as np
import pytest
import torch
from reassembly.proxies.codes_by_hand import conv_by_hand, naswot_by_hand

from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.cache import TensorCache
from zoo_search.reassembly.proxies import Batches, score
from zoo_search.reassembly.proxies.codes import Codes
from zoo_search.reassembly.proxies.naswot import log_det

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 10)))


def relu_net_by_hand(net, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs of the two ReLUs, and logits."""
    first = conv_by_hand(x, net.blocks[0][0])
    second = conv_by_hand(np.maximum(first, 0), net.blocks[1][0])
    weight, bias = net.head.weight.detach().numpy(), net.head.bias.detach().numpy()
    return first, second, np.maximum(second, 0).mean(axis=(2, 3)) @ weight.T + bias


def test_naswot_is_the_original_definition(relu_net):
    x = torch.randn(80, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    batches = Batches(x, seed=4)
    assert (batches.number, batches.size) == (5, 32)
    by_hand = []
    for batch in range(5):
        first, second, _ = relu_net_by_hand(relu_net, x[batches.indices(batch)].numpy())
        by_hand.append(
            naswot_by_hand(np.hstack([first.reshape(32, -1), second.reshape(32, -1)]) > 0)
        )
    assert np.ptp(by_hand) > 0
    assert score(relu_net, "naswot", batches) == pytest.approx(np.mean(by_hand), rel=1e-12)


def test_a_singular_batch_is_drawn_again(relu_net):
    """Images 0 and 1 differ only in a place where both are far below 0 behind the first layer."""
    x = torch.randn(24, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[1] = x[0]
    x[1, 0, 0, 0] += 1e-9
    batches = Batches(x, number=4, size=20, seed=0)
    scores, again = [], 0
    for batch in batches:
        for attempt in range(5):
            chosen = batches.indices(batch, attempt)
            if not {0, 1} <= set(chosen.tolist()):
                break
            again += 1
        first, second, _ = relu_net_by_hand(relu_net, x[chosen].numpy())
        scores.append(
            naswot_by_hand(np.hstack([first.reshape(20, -1), second.reshape(20, -1)]) > 0)
        )
    assert again > 0
    assert score(relu_net, "naswot", batches) == pytest.approx(np.mean(scores), rel=1e-12)
    with pytest.raises(ValueError, match="singular"):
        score(relu_net, "naswot", Batches(x[:2], number=1, size=2))


def test_mean_over_batches_and_cache_give_the_same_score(zoo, images):
    net = assemble(MIXED, zoo, images=images, num_classes=4)
    plain = Batches(images, number=3, size=16, seed=1)
    by_hand = []
    for batch in range(3):
        x = plain.for_net(net, plain.indices(batch))
        with torch.no_grad(), Codes(x) as codes:
            net(x)
        by_hand.append(log_det(codes.kernel[0]))
    assert score(net, "naswot", plain) == pytest.approx(np.mean(by_hand), rel=1e-12)
    shared = Batches(images, number=3, size=16, seed=1, cache=TensorCache(2**26))
    for _ in range(2):
        assert score(net, "naswot", shared) == score(net, "naswot", plain)


def test_what_the_head_reads_makes_no_difference(zoo, images):
    batches = Batches(images, number=2, size=16)
    scores = []
    for taps in ("last", "blocks"):
        net = assemble(Recipe(MIXED.blocks, "target", taps), zoo, "random", num_classes=4)
        scores.append(score(net, "naswot", batches))
    assert scores[0] == scores[1]
