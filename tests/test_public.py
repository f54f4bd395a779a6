from __future__ import annotations

import inspect
import pydoc
from types import ModuleType

import pytest

import zoo_search as zs
from zoo_search import costs, networks, reassembly


@pytest.mark.parametrize("name", ["partition", "similarity"])
def test_the_names_of_steps_are_plain_functions_with_a_signature_and_help(name: str) -> None:
    function = getattr(zs, name)
    assert inspect.isfunction(function)
    assert inspect.signature(function).parameters
    assert "Args:" in pydoc.plain(pydoc.render_doc(function))


def test_every_public_name_is_there() -> None:
    assert [name for name in zs.__all__ if not hasattr(zs, name)] == []
    assert set(dir(zs)) == set(zs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        zs.serach  # noqa: B018


@pytest.mark.parametrize(
    ("name", "home"),
    [
        *((name, networks) for name in networks.__all__),
        *((name, costs) for name in costs.__all__),
    ],
)
def test_what_stood_in_reassembly_is_found_there_with_a_word(name: str, home: ModuleType) -> None:
    vars(reassembly).pop(name, None)
    with pytest.warns(DeprecationWarning, match=f"import {name} from {home.__name__}$") as told:
        found = getattr(reassembly, name)
    assert found is getattr(home, name)
    assert told[0].filename == __file__
    with pytest.raises(AttributeError, match="no attribute 'Recip'"):
        reassembly.Recip  # noqa: B018
