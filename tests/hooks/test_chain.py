"""Hooks one after the other: order, what is measured, what is refused."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo_search.config import HookConfig, load_job
from zoo_search.errors import UserError
from zoo_search.hooks import Context, Filled, HookReport, Piece, as_hooks, register_hook, start


def network() -> nn.Sequential:
    """A pre-trained layer and a new one."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def context(net: nn.Sequential, **more: Any) -> Context:
    return Context("candidate", "net", (Piece("1", net[1]),), **more)


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
    assert HookReport(**report.as_dict()) == report


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


def raises(module: nn.Module, told: Context) -> None:
    raise ZeroDivisionError("oh no")


def leaves_nan(module: nn.Module, told: Context) -> None:
    told.fresh["1.bias"].fill_(float("nan"))


def touches_others(module: nn.Module, told: Context) -> None:
    module.get_parameter("0.weight").mul_(2)


def replaces_others(module: nn.Module, told: Context) -> None:
    module.get_submodule("0").weight = nn.Parameter(torch.ones(3, 4))


def reshapes(module: nn.Module, told: Context) -> None:
    told.pieces[0].module.weight = nn.Parameter(torch.zeros(5, 3))


def halves_precision(module: nn.Module, told: Context) -> None:
    told.pieces[0].module.half()


def touches_data(module: nn.Module, told: Context) -> None:
    module.get_parameter("0.weight").data.mul_(2)


def touches_a_donor(module: nn.Module, told: Context) -> None:
    told.pieces[0].donors["giver"].get_parameter("weight").data.zero_()


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


def test_names_that_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"init\.1: there is no init hook 'dpait'.*'dpiat'\?"):
        as_hooks(["least_squares", "dpait"])
    with pytest.raises(UserError, match=r"init\.0: .*'module:no_such:hook': no Python module"):
        as_hooks("module:no_such:hook")
    with pytest.raises(UserError, match="cannot be registered as 'dpiat'"):
        register_hook("dpiat")
    (tmp_path / "own_hooks.py").write_text("number = 3\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="'number' of module 'own_hooks' is of type int"):
        as_hooks("module:own_hooks:number")


def no_context(module: nn.Module) -> None:
    """A hook that cannot be called as one."""


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ({"hook": "dpiat", "options": {"matchng": "dp"}}, r"^init\.0\.options: .*'matching'\?"),
        ({"hook": "dpiat", "options": {"matching": ["dp"]}}, r"^init\.0\.options\.matching: There"),
        ({"hook": "dpiat", "options": {"operator": "clp"}}, r"options\.operator: There.*'clip'\?"),
        ({"hook": "random", "options": {"x": 1}}, r"^init\.0\.options: .*'random' takes none"),
        ({"hook": "least_squares", "options": {"x": 1}}, r"'least_squares' takes none"),
        ({"hook": "least_squares", "roles": ["zoo"]}, r"^init\.0\.roles: .* in candidate only"),
        (no_context, r"^init\.0: the init hook 'no_context' takes \(module: 'nn\.Module'\)"),
    ],
)
def test_what_is_wrong_with_a_hook_is_found_when_it_is_named(init: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        as_hooks(init)


def test_a_module_that_fails_on_import_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_hooks.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="'broken_hooks' fails when it is imported: ZeroDivision"):
        as_hooks("module:broken_hooks:hook")


def test_hooks_of_modules_and_of_installed_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package declares its hook in its entry points; a module of one's own is named by path."""
    code = "def ones(module, context):\n    for t in context.fresh.values():\n        t.fill_(1)\n"
    (tmp_path / "packaged_hooks.py").write_text(code, encoding="utf-8")
    about = tmp_path / "packaged_hooks-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: packaged-hooks\nVersion: 1.0\n", encoding="utf-8")
    points = "[zoo_search.hooks]\nall_ones = packaged_hooks:ones\n"
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("all_ones", "module:packaged_hooks:ones"):
        net = network()
        (report,) = start(net, context(net), as_hooks(name))
        assert report.hook == name
        assert bool((net[1].weight == 1).all())


def scaled(module: nn.Module, context: Context, by: float = 1.0) -> None:
    """A hook with an argument."""


def test_facts_of_users_hooks_are_taken_as_they_are() -> None:
    """Names that our own reports use mean nothing in a user's."""
    for facts in ({"r2": 0.9}, {"pieces": 3}, {"pieces": ["a"]}, {"source": ["a"]}):
        report = HookReport("mine", "zoo", 8, 4, False, 0.1, facts)
        assert str(report) == "mine, 4 of 8 values changed"


def test_mappings_are_hooks_and_other_things_are_none() -> None:
    (hook,) = as_hooks([{"hook": "dpiat", "roles": ["zoo"]}])
    assert (hook.name, hook.roles, hook.ours) == ("dpiat", ("zoo",), True)
    with pytest.raises(UserError, match=r"init\.0: .* is no hook .*Allowed keys: hook, roles"):
        as_hooks([{"hook": "dpiat", "role": ["zoo"]}])
    with pytest.raises(UserError, match=r"init\.0: a int is no init hook"):
        as_hooks([3])  # type: ignore[list-item]

    def random(module: nn.Module, context: Context) -> None:
        """A user's function with the name of one of ours."""

    assert not as_hooks(random)[0].ours


def test_the_source_of_a_hook_is_part_of_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for name, body in (("one", "return None"), ("two", "return None"), ("three", "return {}")):
        (tmp_path / f"{name}_hooks.py").write_text(
            f"def same(module, context):\n    {body}\n", encoding="utf-8"
        )
        (hook,) = as_hooks(f"module:{name}_hooks:same")
        found.append(hook.identity[1:])
    assert found[0] == found[1] != found[2]
    halves = [functools.partial(scaled, by=by) for by in (0.5, 0.5, 0.25)]
    one, same, other = (as_hooks(half)[0].identity for half in halves)
    assert one == same != other
    (tuned,) = as_hooks([HookConfig(hook="dpiat", options={"operator": "full"})])
    assert tuned.identity != as_hooks("dpiat")[0].identity


JOB: dict[str, Any] = {
    "name": "x",
    "dataset": "digits",
    "zoo": {
        "a": {"arch": "resnet10t"},
        "b": {"arch": "resnet14t", "weights": None, "source": "a"},
    },
}


def test_the_run_file_takes_names_sections_and_a_single_hook() -> None:
    default = load_job(JOB)
    assert [(h.hook, h.roles) for h in default.init] == [
        ("dpiat", ("zoo", "plain", "variant")),
        ("least_squares", ("candidate",)),
    ]
    assert load_job(JOB | {"init": "dpiat"}).init == (HookConfig(hook="dpiat"),)
    mixed = load_job(JOB | {"init": ["random", {"hook": "dpiat", "roles": ["zoo"]}]}).init
    assert [h.hook for h in mixed] == ["random", "dpiat"]
    assert mixed[1].roles == ("zoo",)
    assert load_job(JOB | {"init": []}).init == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"init": [{"hook": "dpiat", "role": ["zoo"]}]},
            r"unknown key 'role'.*Did you mean 'roles'",
        ),
        ({"init": [{"hook": "dpiat", "roles": ["zu"]}]}, r"init\.0\.roles\.0"),
        ({"zoo": {"a": {"arch": "x", "source": "b"}}}, r"zoo\.a\.source is for models without"),
        (
            {"zoo": {"lite0": {"arch": "x"}, "b": {"arch": "y", "weights": None, "source": "lit"}}},
            r"zoo\.b\.source: no model of the zoo has weights and this name: 'lit'.*'lite0'\?",
        ),
        ({"finetune": {"plain": {"a": {"arch": "x"}}}}, r"plain\.a: a model of the zoo has this"),
        (
            {"finetune": {"plain": {"c": {"arch": "x", "weights": "pretrained_on:digits"}}}},
            r"finetune\.plain\.c\.weights: 'pretrained_on:digits' is for models of the zoo",
        ),
        (
            {"finetune": {"variants": {"v": {"of": "reassembly 4", "input_size": 64}}}},
            r"variants\.v\.of: no network is fine-tuned under this name: 'reassembly 4'",
        ),
        (
            {"finetune": {"variants": {"v": {"models": {"c": {"arch": "x"}}}}}},
            r"variants\.v\.models: no model of the zoo has this name: 'c'",
        ),
        ({"finetune": {"variants": {"v": {}}}}, r"variants\.v': it changes nothing"),
        (
            {"finetune": {"variants": {"v": {"models": {"a": {}}}}}},
            r"variants\.v\.models\.a': it changes nothing",
        ),
        ({"finetune": {"plain": {"random recipe": {"arch": "x"}}}}, "search finds has this"),
        (
            {"finetune": {"plain": {"p": {"arch": "x"}}, "variants": {"p": {"input_size": 64}}}},
            r"finetune\.variants\.p: a plain model has this name; choose another",
        ),
        ({"zoo": {"a@b": {"arch": "x"}}}, "the name 'a@b' holds an @"),
        (
            {"finetune": {"plain": {"c": {"arch": "x", "init": [{"hooks": "dpiat"}]}}}},
            r"unknown key 'hooks' .* Did you mean 'hook'\? Allowed there: hook, roles, options",
        ),
    ],
)
def test_mistakes_in_the_run_file(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_job(JOB | change)
