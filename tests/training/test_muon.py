"""Muon against the singular value decomposition, timm's iteration and AdamW."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from zoo_search.training.muon import Muon, is_matrix, orthogonalized


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 24, 6), (1, 5, 40)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    matrices = draw(*shape).double()
    turned = orthogonalized(matrices)
    u, values, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ turned @ v.mT
    diagonal = torch.diagonal(inner, dim1=-2, dim2=-1)
    assert torch.allclose(inner, torch.diag_embed(diagonal), atol=1e-10)
    large = values > 0.02 * values.norm(dim=-1, keepdim=True)
    assert bool(((diagonal[large] > 0.68) & (diagonal[large] < 1.21)).all())


def test_it_is_the_iteration_of_timm_without_its_bfloat16() -> None:
    from timm.optim.muon import _COEFFICIENTS, zeropower_via_newtonschulz

    matrices = draw(4, 24, 10)
    theirs = zeropower_via_newtonschulz(matrices, 3, _COEFFICIENTS["original"], dtype=torch.float32)
    assert torch.allclose(orthogonalized(matrices), theirs, atol=1e-5)
    assert orthogonalized(matrices).dtype == torch.float32


def test_what_is_a_matrix() -> None:
    shapes = {(8, 8): True, (64, 3, 16, 16): True, (8,): False, (1, 17, 128): False}
    shapes |= {(32, 1, 3, 3): False, (2, 50): False, (): False}
    for shape, expected in shapes.items():
        assert is_matrix(torch.zeros(shape)) == expected, shape


def test_a_step_by_hand_for_matrices_and_adamw_for_the_rest() -> None:
    torch.manual_seed(0)
    weights = [nn.Parameter(draw(6, 4)), nn.Parameter(draw(6, 4) * 2)]
    bias, twin = nn.Parameter(draw(6)), nn.Parameter(draw(6))
    before = [weight.detach().clone() for weight in weights]
    ours = Muon(
        [
            {"params": weights, "orthogonal": True, "weight_decay": 0.1},
            {"params": [bias], "orthogonal": False, "weight_decay": 0.0},
        ],
        lr=0.01,
        momentum=0.9,
    )
    theirs = torch.optim.AdamW([twin], lr=0.01, weight_decay=0.0)
    means = [torch.zeros(6, 4), torch.zeros(6, 4)]
    for step in range(3):
        for index, weight in enumerate(weights):
            weight.grad = draw(6, 4) * (step + index + 1)
            means[index] = 0.9 * means[index] + 0.1 * weight.grad
            ahead = 0.1 * weight.grad + 0.9 * means[index]
            turned = orthogonalized(ahead[None])[0]
            length = 0.01 * 0.2 * math.sqrt(6)
            before[index] = before[index] * (1 - 0.01 * 0.1) - length * turned
        bias.grad, twin.grad = draw(6) * step, draw(6) * step
        ours.step()
        theirs.step()
    for weight, expected in zip(weights, before, strict=True):
        assert torch.allclose(weight.detach(), expected, atol=1e-6)
    assert torch.allclose(bias, twin, atol=1e-7)


def test_its_state_travels() -> None:
    def make() -> tuple[nn.Linear, Muon]:
        torch.manual_seed(1)
        net = nn.Linear(8, 8)
        groups = [{"params": [net.weight], "orthogonal": True}, {"params": [net.bias]}]
        return net, Muon(groups, lr=0.1)

    (a, first), (b, second) = make(), make()
    for _ in range(2):
        a(draw(4, 8)).square().sum().backward()
        first.step()
        first.zero_grad()
    b.load_state_dict(a.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for net, optimizer in ((a, first), (b, second)):
        net(draw(4, 8)).square().sum().backward()
        optimizer.step()
    assert torch.equal(a.weight, b.weight)
    assert torch.equal(a.bias, b.bias)
