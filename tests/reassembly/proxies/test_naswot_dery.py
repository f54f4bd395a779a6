"""The hook set of DeRy's own code, against its list of classes and codes written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from reassembly.proxies.codes_by_hand import conv_by_hand, naswot_by_hand
from timm.layers import GELU, GELUTanh
from timm.models.vision_transformer import Attention
from torch import nn

from zoo_search.linegraph import trace
from zoo_search.linegraph.graph import Cut
from zoo_search.networks import BlockRef, ReassembledNet, Recipe, assemble
from zoo_search.reassembly.proxies import Batches, score

COUNT = (
    nn.ReLU(), nn.LeakyReLU(), nn.PReLU(), nn.ELU(), nn.SELU(), nn.GELU(), nn.Hardswish(),
    nn.Mish(), nn.Dropout(0.5), nn.Linear(6, 6), GELU(), GELUTanh(),
)  # fmt: skip
DO_NOT = (
    nn.SiLU(), nn.ReLU6(), nn.Hardtanh(), nn.Sigmoid(), nn.Tanh(), nn.Identity(), nn.Dropout2d(),
    nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1),
)  # fmt: skip


class Branches(nn.Module):
    """Runs every branch on the input and hands the input on."""

    def __init__(self, branches: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for branch in self.branches:
            branch(x)
        return x


def net_of(block: nn.Module, channels: int = 4) -> ReassembledNet:
    cut = Cut(1, "last", "nchw", channels, (6, 6))
    recipe = Recipe((BlockRef("m", 0, 1),))
    head = nn.Linear(channels, 3)
    return ReassembledNet(recipe, [block], [], head, cut, (3, 6, 6)).double().eval()


def images(count: int = 12) -> Batches:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, 6, 6, dtype=torch.float64, generator=generator)
    return Batches(x, number=1, size=count)


def test_outputs_of_what_the_code_hooks_and_of_nothing_else() -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, 3, padding=1)
    net = net_of(nn.Sequential(first, Branches(COUNT + DO_NOT)))
    batches = images()
    x = conv_by_hand(batches.images[batches.indices(0)].numpy(), first)
    units = []
    with torch.no_grad():
        for module in COUNT:
            units.append(module(torch.from_numpy(x)).numpy().reshape(12, -1) > 0)
        units.append(net.head(torch.from_numpy(x.mean((2, 3)))).numpy() > 0)
    expected = naswot_by_hand(np.hstack(units))
    assert score(net, "naswot_dery", batches) == pytest.approx(expected, rel=1e-12)
    for module in (*COUNT, *DO_NOT):
        assert not module._forward_hooks


def test_attention_counts_itself_and_its_weights_as_units_that_are_on() -> None:
    torch.manual_seed(0)
    attention = Attention(4, num_heads=2, qkv_bias=True).double().eval()

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.attention = nn.Conv2d(3, 4, 3, padding=1), attention

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            tokens = self.attention(x.flatten(2).transpose(1, 2))
            return tokens.transpose(1, 2).reshape(x.shape)

    block = Tokens()
    net, batches = net_of(block), images()
    x = conv_by_hand(batches.images[batches.indices(0)].numpy(), block.conv)
    tokens = x.reshape(12, 4, 36).transpose(0, 2, 1)

    def linear(of: nn.Linear, x: np.ndarray) -> np.ndarray:
        return x @ of.weight.detach().numpy().T + of.bias.detach().numpy()

    qkv = linear(attention.qkv, tokens)
    q, k, v = qkv.reshape(12, 36, 3, 2, 2).transpose(2, 0, 3, 1, 4)
    logits = q @ k.transpose(0, 1, 3, 2) / np.sqrt(2)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    out = linear(attention.proj, (weights @ v).transpose(0, 2, 1, 3).reshape(12, 36, 4))
    logits = linear(net.head, out.mean(1))
    # Linear qkv; dropout of the weights; linear proj, its dropout, and the attention as a whole.
    units = [qkv, weights, out, out, out, logits]
    expected = naswot_by_hand(np.hstack([unit.reshape(12, -1) > 0 for unit in units]))
    attention.fused_attn = True
    assert score(net, "naswot_dery", batches) == pytest.approx(expected, rel=1e-12)
    assert attention.fused_attn is True


SMALL = {"img_size": 64, "embed_dim": 24}
SWIN = {"window_size": 4, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}


@pytest.mark.parametrize(
    ("arch", "kwargs", "attention", "blocks"),
    [
        ("vit_tiny_patch16_224", SMALL | {"depth": 2, "num_heads": 2}, "Attention", 2),
        ("swin_tiny_patch4_window7_224", SMALL | SWIN, "WindowAttention", 4),
    ],
)
def test_attention_of_real_networks_counts(arch, kwargs, attention, blocks) -> None:
    """Against the outputs of modules of these names, windows of an image in a row."""
    torch.manual_seed(0)
    graph = trace(timm.create_model(arch, **kwargs).eval(), (3, 64, 64), arch)
    net = assemble(Recipe((BlockRef(arch, 0, len(graph)),)), {arch: graph}, "random", num_classes=9)
    batches = Batches(torch.rand(8, 3, 64, 64), number=1, size=8)
    found = score(net, "naswot_dery", batches)
    outputs: list[tuple[str, np.ndarray]] = []
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
        if type(module).__name__ in {"Linear", "Dropout", "GELU", attention}:
            module.register_forward_hook(
                lambda m, _, out: outputs.append(
                    (type(m).__name__, (out.numpy() > 0).reshape(8, -1))
                )
            )
    with torch.no_grad():
        net(batches.for_net(net, batches.indices(0)))
    assert [name for name, _ in outputs].count(attention) == blocks
    expected = naswot_by_hand(np.hstack([codes for _, codes in outputs]))
    assert found == pytest.approx(expected, rel=1e-12)


def test_of_an_efficientnet_lite_nothing_but_the_head_counts() -> None:
    arch = "tf_efficientnet_lite0"
    graph = trace(timm.create_model(arch).eval(), (3, 64, 64), arch)
    net = assemble(Recipe((BlockRef(arch, 0, len(graph)),)), {arch: graph}, "random", num_classes=2)
    with pytest.raises(ValueError, match="singular"):  # two bits do not tell eight images apart
        score(net, "naswot_dery", Batches(torch.rand(8, 3, 64, 64), number=1, size=8))
