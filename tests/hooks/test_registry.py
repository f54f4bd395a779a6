"""Hooks by name: what is found, what is refused, what makes their identity."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from new_layers import context, network
from torch import nn

from zoo_search.config import HookConfig
from zoo_search.core.errors import UserError
from zoo_search.hooks import Context, as_hooks, register_hook, start


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


def test_mappings_are_hooks_and_other_things_are_none() -> None:
    (hook,) = as_hooks([{"hook": "dpiat", "roles": ["zoo"]}])
    assert (hook.name, hook.roles, hook.ours) == ("dpiat", ("zoo",), True)
    with pytest.raises(UserError, match=r"init\.0: .* is no hook .*Allowed keys: hook, roles"):
        as_hooks([{"hook": "dpiat", "role": ["zoo"]}])
    for wrong, why in (
        ({"roles": ["zoo"]}, "the key 'hook' has to be a name"),
        ({"hook": "dpiat", "roles": []}, "roles has to be a list of zoo, plain"),
        ({"hook": "dpiat", "roles": ["zu"]}, "roles has to be a list of zoo, plain"),
        ({"hook": "dpiat", "options": 3}, "options has to be a mapping"),
    ):
        with pytest.raises(UserError, match=rf"init\.0: .* is no hook \({why}"):
            as_hooks([wrong])
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
