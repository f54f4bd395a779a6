"""What a hook must not do: pre-trained weights are put back, and it is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from new_layers import network
from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.hooks import Context, Piece, as_hooks, start


def touches_others(module: nn.Module, told: Context) -> None:
    module.get_parameter("0.weight").mul_(2)


def replaces_others(module: nn.Module, told: Context) -> None:
    module.get_submodule("0").weight = nn.Parameter(torch.ones(3, 4))


def touches_data(module: nn.Module, told: Context) -> None:
    module.get_parameter("0.weight").data.mul_(2)


def touches_a_donor(module: nn.Module, told: Context) -> None:
    told.pieces[0].donors["giver"].get_parameter("weight").data.zero_()


def raises(module: nn.Module, told: Context) -> None:
    raise ZeroDivisionError("oh no")


def leaves_nan(module: nn.Module, told: Context) -> None:
    told.fresh["1.bias"].fill_(float("nan"))


def reshapes(module: nn.Module, told: Context) -> None:
    told.pieces[0].module.weight = nn.Parameter(torch.zeros(5, 3))


def halves_precision(module: nn.Module, told: Context) -> None:
    told.pieces[0].module.half()


def returns_a_tensor(module: nn.Module, told: Context) -> Any:
    return nn.init.zeros_(told.pieces[0].module.get_parameter("weight"))


def tells_tensors(module: nn.Module, told: Context) -> dict[str, Tensor]:
    return {"weight": torch.ones(1)}


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (raises, r"hook 'raises' failed on net \(candidate\): ZeroDivisionError: oh no \(te"),
        (leaves_nan, r"'leaves_nan'.* left values that are not finite in 1\.bias\. Fill"),
        (halves_precision, r"'halves_precision'.* changed names, shapes, types"),
        (returns_a_tensor, r"'returns_a_tensor'.* returned what is not JSON \(a Parameter"),
        (touches_data, r"'touches_data'.* changed pre-trained weights"),
        (touches_a_donor, r"'touches_a_donor'.* changed pre-trained weights"),
        (touches_others, r"'touches_others'.* changed pre-trained weights"),
        (replaces_others, r"'replaces_others'.* changed pre-trained weights"),
        (reshapes, r"'reshapes'.* changed names, shapes, types"),
        (tells_tensors, r"'tells_tensors'.* returned what is not JSON"),
    ],
)
def test_what_a_hook_must_not_do_is_told_and_undone(hook: Any, words: str) -> None:
    net, giver = network(), nn.Linear(3, 2)
    shared = [net[0].weight, net[0].bias, giver.weight, giver.bias]
    values = [tensor.detach().clone() for tensor in shared]
    piece = Piece("1", net[1], {"giver": giver})
    with pytest.raises(UserError, match=words):
        start(net, Context("candidate", "net", (piece,)), as_hooks(hook))
    now = [net[0].weight, net[0].bias, giver.weight, giver.bias]
    assert all(a is b for a, b in zip(now, shared, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(shared, values, strict=True))


@pytest.mark.parametrize("role", ["zoo", "plain", "variant"])
def test_donors_are_watched_where_nothing_is_copied(role: Any) -> None:
    net, giver = network(), nn.Linear(3, 2)
    piece = Piece("", net, {"giver": giver})
    with pytest.raises(UserError, match=r"'touches_a_donor'.* changed pre-trained weights"):
        start(net, Context(role, "net", (piece,)), as_hooks(touches_a_donor))
