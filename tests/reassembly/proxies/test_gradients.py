"""Proxies of gradients against finite differences and per-image derivatives."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.reassembly.proxies import Batches, score
from zoo_search.reassembly.proxies.gradients import LAYERS

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("swin", 1, 4), BlockRef("vit", 1, 4)))

STEP = 1e-6


def derivatives(net, value) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every parameter with the central differences of ``value()`` by its entries."""
    found = []
    with torch.no_grad():
        for parameter in net.parameters():
            flat, slopes = parameter.view(-1), []
            for i in range(len(flat)):
                kept = float(flat[i])
                flat[i] = kept + STEP
                high = value()
                flat[i] = kept - STEP
                slopes.append((high - value()) / (2 * STEP))
                flat[i] = kept
            found.append((flat.numpy().copy(), np.array(slopes)))
    return found


def loss(net, batches: Batches, batch: int) -> float:
    """Mean cross-entropy from the logits, in numpy."""
    chosen = batches.indices(batch)
    with torch.no_grad():
        logits = net(batches.images[chosen]).numpy()
    labels = batches.labels[chosen].numpy()
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]))


def test_grad_norm_and_snip_against_finite_differences(relu_net, batches):
    norms, saliency = [], []
    for batch in range(2):
        found = derivatives(relu_net, lambda batch=batch: loss(relu_net, batches, batch))
        norms.append(sum(np.sqrt((slope**2).sum()) for _, slope in found))
        saliency.append(sum(np.abs(theta * slope).sum() for theta, slope in found))
    assert score(relu_net, "grad_norm", batches) == pytest.approx(np.mean(norms), rel=1e-6)
    assert score(relu_net, "snip", batches) == pytest.approx(np.mean(saliency), rel=1e-6)


def channel_slopes(net, x, labels):
    """``dL_n/ds`` for a factor s = 1 on each output channel of each layer, image by image.

    A factor on a channel of the output is one on its weights and bias, so no activation is looked
    at: a layer's slopes are ``θ_k · ∂L_n/∂θ_k``.
    """
    layers = [m for m in net.modules() if isinstance(m, LAYERS)]
    for image, label in zip(x, labels, strict=True):
        net.zero_grad()
        F.cross_entropy(net(image[None]), label[None]).backward()
        for layer in layers:
            slope = (layer.weight * layer.weight.grad).flatten(1).sum(1)
            if layer.bias is not None:
                slope = slope + layer.bias * layer.bias.grad
            yield slope.detach()


def test_fisher_against_derivatives_by_a_factor_on_each_channel(relu_net, batches):
    by_hand = []
    for batch in range(2):
        chosen = batches.indices(batch)
        slopes = channel_slopes(relu_net, batches.images[chosen], batches.labels[chosen])
        by_hand.append(sum(float((slope**2).sum()) for slope in slopes) / (2 * 4))
    assert score(relu_net, "fisher", batches) == pytest.approx(np.mean(by_hand), rel=1e-10)


def test_fisher_of_tokens_and_windows(zoo, images):
    """Linear layers on tokens, and on windows of them, keep their channels in the last axis."""
    net = assemble(MIXED, zoo, "random", num_classes=4).double()
    labels = torch.arange(len(images)) % 4
    net.transform = None
    batches = Batches((images / 255).double(), labels, number=1, size=3)
    chosen = batches.indices(0)
    slopes = channel_slopes(net, batches.for_net(net, chosen), labels[chosen])
    by_hand = sum(float((slope**2).sum()) for slope in slopes) / (2 * 3)
    assert score(net, "fisher", batches) == pytest.approx(by_hand, rel=1e-8)


@pytest.mark.parametrize("name", ["grad_norm", "snip", "fisher", "synflow", "jacov"])
def test_frozen_parameters_and_train_mode_change_nothing(relu_net, batches, name):
    expected = score(relu_net, name, batches)
    relu_net.train()
    relu_net.blocks.requires_grad_(False)
    relu_net.blocks[0][1] = torch.nn.Sequential(relu_net.blocks[0][1], torch.nn.Dropout(0.5))
    assert score(relu_net, name, batches) == expected
    assert relu_net.training
    assert relu_net.blocks[0].training
    assert [p.requires_grad for p in relu_net.parameters()] == [False] * 4 + [True] * 2
    assert all(p.grad is None for p in relu_net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in relu_net.modules())


@pytest.mark.parametrize("name", ["grad_norm", "snip", "fisher"])
def test_labels_that_the_head_does_not_know(relu_net, batches, name):
    with pytest.raises(ValueError, match=r"3 classes apart, and the labels go up to"):
        score(relu_net, name, Batches(batches.images, torch.arange(12), number=1, size=8))
    with pytest.raises(ValueError, match="needs labels"):
        score(relu_net, name, Batches(batches.images, number=1, size=8))
