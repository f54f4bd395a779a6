"""Names to things: ours, registered, declared by packages, named by path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo_search.core.errors import UserError
from zoo_search.core.registry import Registry

Number = Callable[[], int]


def ten() -> int:
    return 10


@pytest.fixture
def numbers() -> Registry[Number]:
    ours = {"one": "numbers_of_ours:one", "two": "numbers_of_ours:two"}
    return Registry("number", ours, group="zoo_search.test_numbers", ending=":NAME", hint=" Hint.")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules are imported from; what was imported is forgotten afterwards."""
    (tmp_path / "numbers_of_ours.py").write_text(
        "one = lambda: 1\ntwo = lambda: 2\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("numbers_of_ours", "numbers_of_theirs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_nothing_is_imported_before_it_is_asked_for(numbers, folder) -> None:
    assert list(numbers) == list(numbers.ours) == ["one", "two"]
    assert "two" in numbers
    numbers.check(["one", "two"], "here")
    assert "numbers_of_ours" not in sys.modules
    assert numbers.get("two", "here")() == 2


def test_what_is_registered_is_found(numbers) -> None:
    assert numbers.register("ten")(ten) is ten
    assert numbers.get("ten", "here") is ten
    assert list(numbers) == ["one", "two", "ten"]
    numbers.unregister("ten")
    numbers.unregister("never there")
    assert "ten" not in numbers


@pytest.mark.parametrize("name", ["one", "", "a:b", ":", "module:a:b"])
def test_names_that_cannot_be_registered(numbers, name) -> None:
    with pytest.raises(UserError, match=rf"^A number cannot be registered as '{name}': one, two"):
        numbers.register(name)


def test_a_name_that_is_taken_is_refused_and_a_cell_can_be_run_again(numbers) -> None:
    def define(value: int) -> Number:
        def number() -> int:
            return value

        return number

    numbers.register("mine")(define(1))
    numbers.register("mine")(define(2))
    assert numbers.get("mine", "here")() == 2
    with pytest.raises(UserError, match=r"as 'mine': \S+define\.<locals>\.number has this name"):
        numbers.register("mine")(ten)
    assert numbers.get("mine", "here")() == 2


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others(numbers, folder) -> None:
    numbers.register("ten")(ten)
    with pytest.raises(UserError) as caught:
        numbers.get("tn", "job.number")
    assert str(caught.value) == (
        "job.number: there is no number 'tn'. Did you mean 'ten'? Allowed: one, two, ten, or "
        "'module:package.mod:function' for a function of your own. Hint."
    )
    with pytest.raises(UserError, match="no number 'tn'"):
        numbers.check(["one", "tn"], "job.number")


def test_a_function_is_named_by_its_path(numbers, folder) -> None:
    (folder / "numbers_of_theirs.py").write_text("six = lambda: 6\n", encoding="utf-8")
    assert numbers.get("module:numbers_of_theirs:six", "here")() == 6
    where = "^here: the number 'module:numbers_of_theirs:sx': module"
    with pytest.raises(UserError, match=rf"{where}.* Did you mean 'six'\?"):
        numbers.check(["module:numbers_of_theirs:sx"], "here")


def test_an_installed_package_declares_one(numbers, folder) -> None:
    (folder / "numbers_of_theirs.py").write_text("six = lambda: 6\n", encoding="utf-8")
    about = folder / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: theirs\nVersion: 1.0\n", encoding="utf-8")
    points = "[zoo_search.test_numbers]\nsix = numbers_of_theirs:six\n"
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    assert numbers.get("six", "here")() == 6
    with pytest.raises(UserError, match=r"Did you mean 'six'\? Allowed: one, two, six,"):
        numbers.get("sixx", "here")


def test_an_argument_stands_where_the_name_says_so(numbers, folder) -> None:
    numbers.register("times:NAME")(ten)
    assert numbers.get("times:3", "here") is ten
    assert list(numbers.identity(["times:3", "one"], "here")) == ["times:3"]
    numbers.check(["times:4"], "here")
    for name in ("times", "one:3", "tims:3"):
        with pytest.raises(UserError, match=f"there is no number '{name}'"):
            numbers.check([name], "here")


def test_the_code_of_a_users_own_is_its_identity(numbers, folder) -> None:
    assert numbers.identity(["one", "two"], "here") == {}
    numbers.register("ten")(ten)
    found = numbers.identity(["one", "ten", "ten"], "here")
    assert list(found) == ["ten"]

    def written(body: str) -> object:
        path = folder / "numbers_of_theirs.py"
        path.write_text(f"def six():\n    return {body}\n", encoding="utf-8")
        sys.modules.pop("numbers_of_theirs", None)
        return numbers.identity(["module:numbers_of_theirs:six"], "here")

    assert written("6") == written("6") != written("5 + 1")
