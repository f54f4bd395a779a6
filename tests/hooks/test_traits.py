"""What a hook says of itself, and what a run file may ask of it then."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from zoo_search.config import HookConfig
from zoo_search.core.errors import UserError
from zoo_search.hooks import Context, as_hooks, hook_traits, register_hook


def positive(option: str, value: object) -> None:
    if not isinstance(value, int) or value <= 0:
        raise UserError(f"{value} is not positive.")


@register_hook("test_traits")
@hook_traits(roles=("plain", "variant"), options=("gain", "times"), check=positive)
def gain(module: nn.Module, context: Context) -> None:
    """A hook with a part in two roles, and two options."""


def test_a_hook_has_a_part_in_its_own_roles_only() -> None:
    (bound,) = as_hooks({"hook": "test_traits", "options": {"gain": 2}})
    assert (bound.roles, bound.options) == (("plain", "variant"), {"gain": 2})
    (bound,) = as_hooks(HookConfig(hook="test_traits", roles=("zoo", "variant")))
    assert bound.roles == ("variant",)
    assert as_hooks(gain)[0].roles == ("plain", "variant")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"roles": ["zoo"]}, r"^init\.0\.roles: .*'test_traits' has a part in plain, variant only"),
        ({"options": {"gian": 1}}, r"^init\.0\.options: .* no option 'gian'.*'gain'\?.* times\.$"),
        ({"options": {"gain": -1}}, r"^init\.0\.options\.gain: -1 is not positive\.$"),
    ],
)
def test_what_it_does_not_take_is_found_at_once(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        as_hooks({"hook": "test_traits", **asked})
