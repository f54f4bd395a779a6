"""Hooks one after the other: order, what is measured, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from new_layers import context, network
from torch import nn

from zoo_search.config import HookConfig
from zoo_search.core.errors import UserError
from zoo_search.hooks import Context, Filled, HookReport, Piece, as_hooks, register_hook, start


def fill(value: float) -> Any:
    def hook(module: nn.Module, told: Context) -> dict[str, float]:
        for tensor in told.fresh.values():
            tensor.fill_(value)
        return {"value": value}

    return hook


def test_hooks_run_in_order_and_each_finds_what_was_left() -> None:
    net, seen = network(), []

    def look(module: nn.Module, told: Context) -> None:
        seen.append({name: tensor.clone() for name, tensor in told.fresh.items()})

    before = {name: t.clone() for name, t in net.state_dict().items()}
    first, second, third = start(net, context(net), as_hooks([fill(1.0), look, fill(2.0)]))
    assert list(seen[0]) == ["1.weight", "1.bias"]
    assert all(bool((tensor == 1).all()) for tensor in seen[0].values())
    assert all(bool((net.state_dict()[n] == 2).all()) for n in ("1.weight", "1.bias"))
    assert all(torch.equal(net.state_dict()[n], before[n]) for n in ("0.weight", "0.bias"))
    assert [report.changed for report in (first, second, third)] == [8, 0, 8]
    assert [report.values for report in (first, second, third)] == [8, 8, 8]
    assert [report.facts for report in (first, second, third)] == [{"value": 1.0}, {}, {"value": 2}]
    assert [report.hook for report in (first, second)] == ["hook", "look"]


def test_what_a_hook_changed_is_measured_even_behind_autograds_back() -> None:
    net = network()

    def sly(module: nn.Module, told: Context) -> Filled:
        told.pieces[0].module.get_parameter("weight").data[0, 0] += 1
        return Filled({"changed": 1000}, fitted=True)

    (report,) = start(net, context(net), as_hooks(sly))
    assert (report.changed, report.values, report.fitted) == (1, 8, True)
    assert HookReport.from_dict(report.to_dict()) == report


def test_a_hook_is_called_for_its_roles_with_its_options() -> None:
    net, told = network(), []
    register_hook("test_roles")(lambda module, given: told.append((given.role, given.options)))
    hooks = as_hooks(
        [HookConfig(hook="test_roles", roles=("zoo", "variant"), options={"gain": 2})], "init"
    )
    for role in ("zoo", "plain", "candidate", "variant"):
        start(net, Context(role, "net", (Piece("", net),)), hooks)
    assert told == [("zoo", {"gain": 2}), ("variant", {"gain": 2})]


def replace_weight(module: nn.Module, told: Context) -> None:
    told.pieces[0].module.weight = nn.Parameter(torch.zeros(2, 3))


def test_a_parameter_may_be_replaced_by_another() -> None:
    net = network()
    (report,) = start(net, context(net), as_hooks(replace_weight))
    assert report.changed == 6
    assert not net[1].weight.any()


def test_what_a_hook_draws_follows_the_seed() -> None:
    def draw(module: nn.Module, told: Context) -> None:
        told.pieces[0].module.get_parameter("weight").normal_()

    found = []
    for seed in (1, 1, 2):
        net = network()
        state = torch.random.get_rng_state()
        start(net, context(net, seed=seed), as_hooks(draw))
        assert torch.equal(torch.random.get_rng_state(), state)
        found.append(net[1].weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_hook_names_its_donors_and_says_what_it_did() -> None:
    net = network()
    piece = Piece("1", net[1], {"giver": nn.Linear(3, 2), "other": nn.Linear(3, 2)})

    def takes(module: nn.Module, told: Context) -> Filled:
        donor = told.options.get("donor", "giver")
        told.pieces[0].module.load_state_dict(told.pieces[0].donors["giver"].state_dict())
        return Filled(donors=[donor], summary=f"{donor}, all of it")

    (report,) = start(net, Context("plain", "net", (piece,)), as_hooks(takes))
    assert (report.donors, report.changed) == (("giver",), 8)
    assert str(report) == "takes from giver, all of it"
    register_hook("test_takes")(takes)
    wrong = as_hooks({"hook": "test_takes", "options": {"donor": "givr"}})
    with pytest.raises(UserError, match=r"come from 'givr'.*'giver'\? .*donors: giver, other\."):
        start(net, Context("plain", "net", (piece,)), wrong)
