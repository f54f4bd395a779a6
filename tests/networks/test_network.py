"""A reassembled network under what people do with networks: half precision and the compiler."""

from __future__ import annotations

import pytest
import torch

from zoo_search.networks import BlockRef, ReassembledNet, Recipe, assemble

RECIPES = {
    "cnn to vit": Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 4))),
    "swin to mlp to cnn": Recipe(
        (BlockRef("swin", 0, 3), BlockRef("mlp", 6, 9), BlockRef("cnn", 5, 8))
    ),
}


@pytest.fixture(params=list(RECIPES))
def net(request: pytest.FixtureRequest, zoo, images) -> ReassembledNet:
    labels = torch.arange(len(images)) % 3
    return assemble(RECIPES[request.param], zoo, images=images, labels=labels)


@torch.no_grad()
def test_bf16_gives_the_logits_to_its_precision(net: ReassembledNet, images) -> None:
    x = net.transform.normalize(images[:8])
    exact = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(x)
    whole = net.to(torch.bfloat16)(x.bfloat16())
    spread = float(exact.std())
    for half in (mixed, whole):
        assert half.dtype == torch.bfloat16
        assert 0 < float((half.float() - exact).abs().mean()) < 0.1 * spread


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("net", "backend"),
    [
        pytest.param("swin to mlp to cnn", "aot_eager", marks=pytest.mark.slow),
        pytest.param("swin to mlp to cnn", "inductor", marks=pytest.mark.exhaustive),
        pytest.param("cnn to vit", "inductor", marks=pytest.mark.exhaustive),
    ],
    indirect=["net"],
)
def test_the_compiler_gives_the_same_logits_and_gradients(
    net: ReassembledNet, images, backend: str
) -> None:
    """What it takes from our code is the graph; the code that it writes of that is its own.

    tests/training/test_machine.py has it write that, too, in a training.
    """
    x = net.transform.normalize(images[:4])
    found = []
    for call in (net, torch.compile(net, backend=backend)):
        net.zero_grad()
        out = call(x)
        out.square().mean().backward()
        found.append((out.detach(), [p.grad.clone() for p in net.stitches.parameters()]))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-3, atol=1e-4)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(a, b, rtol=1e-2, atol=1e-3 * float(a.abs().max()))
