"""SynFlow against central differences of a network that is written out without its batch norms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d, GroupNorm, LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.linegraph.graph import Cut
from zoo_search.networks import BlockRef, ReassembledNet, Recipe
from zoo_search.reassembly.proxies import Batches, score

STEP = 1e-6
BATCHES = Batches(torch.rand(4, 3, 6, 6), size=2)


def net_of(*blocks: nn.Module, channels: int) -> ReassembledNet:
    """A network of these blocks and a head for 3 classes, with random values everywhere."""
    recipe = Recipe(tuple(BlockRef("m", i, i + 1) for i in range(len(blocks))))
    cut = Cut(len(blocks), "last", "nchw", channels, (6, 6))
    stitches = [nn.Identity() for _ in blocks[1:]]
    head = nn.Linear(channels, 3)
    net = ReassembledNet(recipe, list(blocks), stitches, head, cut, (3, 6, 6)).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_().add_(0.5)
    return net


def flow(parameters: dict[str, Tensor], weights: list[str], total: Callable[..., Tensor]) -> float:
    """``Σ |θ ∂R/∂θ|`` over the entries of ``weights``, by central differences of ``total``."""
    found = 0.0
    positive = {name: p.detach().abs().clone() for name, p in parameters.items()}
    for name in weights:
        flat = positive[name].view(-1)
        for i in range(len(flat)):
            kept = float(flat[i])
            flat[i] = kept + STEP
            high = float(total(positive))
            flat[i] = kept - STEP
            found += abs(kept * (high - float(total(positive))) / (2 * STEP))
            flat[i] = kept
    return found


def test_weights_count_and_batch_norms_are_off() -> None:
    net = net_of(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(4, 5, 1, bias=False), BatchNormAct2d(5, act_layer=nn.ReLU6)),
        channels=5,
    )

    def total(p: dict[str, Tensor]) -> Tensor:
        x = torch.ones(1, 3, 6, 6, dtype=torch.float64)
        x = F.relu(F.conv2d(x, p["blocks.0.0.weight"], p["blocks.0.0.bias"], padding=1))
        x = F.conv2d(x, p["blocks.1.0.weight"]).clamp(0, 6)
        return (x.mean((2, 3)) @ p["head.weight"].T + p["head.bias"]).sum()

    weights = ["blocks.0.0.weight", "blocks.1.0.weight", "head.weight"]
    with torch.no_grad():
        net.blocks[1][0].weight.mul_(0.1)  # so that not every unit is above 6
    expected = flow(dict(net.named_parameters()), weights, total)
    assert score(net, "synflow", BATCHES) == pytest.approx(math.log(expected), rel=1e-7)

    before = score(net, "synflow", BATCHES)
    with torch.no_grad():
        for norm in (net.blocks[0][1], net.blocks[1][1]):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.mul_(3)
    assert score(net, "synflow", BATCHES) == before


def test_layer_and_group_norms_stay_on() -> None:
    net = net_of(
        nn.Sequential(nn.Conv2d(3, 4, 1), LayerNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 1), GroupNorm(4, num_groups=2), nn.GELU()),
        channels=4,
    )

    def normed(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
        mean, var = x.mean(dims, keepdim=True), x.var(dims, keepdim=True, correction=0)
        return (x - mean) / (var + eps).sqrt()

    def total(p: dict[str, Tensor]) -> Tensor:
        x = torch.ones(1, 3, 6, 6, dtype=torch.float64)
        x = F.conv2d(x, p["blocks.0.0.weight"], p["blocks.0.0.bias"])
        at = "blocks.0.1"
        x = normed(x, (1,), 1e-6) * p[f"{at}.weight"].view(4, 1, 1) + p[f"{at}.bias"].view(4, 1, 1)
        x = F.conv2d(F.relu(x), p["blocks.1.0.weight"], p["blocks.1.0.bias"])
        at = "blocks.1.1"
        groups = normed(x.view(1, 2, 2, 6, 6), (2, 3, 4), 1e-5).view(1, 4, 6, 6)
        x = F.gelu(groups * p[f"{at}.weight"].view(4, 1, 1) + p[f"{at}.bias"].view(4, 1, 1))
        return (x.mean((2, 3)) @ p["head.weight"].T + p["head.bias"]).sum()

    weights = ["blocks.0.0.weight", "blocks.1.0.weight", "head.weight"]
    expected = flow(dict(net.named_parameters()), weights, total)
    assert score(net, "synflow", BATCHES) == pytest.approx(math.log(expected), rel=1e-6)


def test_a_sum_over_paths_where_all_is_linear() -> None:
    """Without norms and biases R is a sum of products along paths, one factor for each layer."""
    net = net_of(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 5, 1, bias=False), channels=5)
    with torch.no_grad():
        net.head.bias.zero_()
    one, two, head = (
        np.abs(layer.weight.detach().numpy().reshape(len(layer.weight), -1))
        for layer in (net.blocks[0], net.blocks[1], net.head)
    )
    paths = (head @ two @ one).sum()
    assert score(net, "synflow", BATCHES) == pytest.approx(math.log(3 * paths), rel=1e-12)


def test_a_network_too_deep_for_float64_has_no_score() -> None:
    net = net_of(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(8)), channels=3)
    with torch.no_grad():
        for block in net.blocks:
            block.weight.fill_(1e50)
    with pytest.raises(ValueError, match="exceeds float64"):
        score(net, "synflow", BATCHES)
