"""Hooks that start what has no pre-trained weights: the list ``init`` of a run file."""

from zoo_search.hooks.chain import check_filled, check_part, start
from zoo_search.hooks.context import Context, Filled, Fitter, HookRole, Piece
from zoo_search.hooks.registry import (
    BoundHook,
    Init,
    as_hooks,
    hook_traits,
    hooks_identity,
    register_hook,
)
from zoo_search.hooks.report import HookReport

__all__ = [
    "BoundHook",
    "Context",
    "Filled",
    "Fitter",
    "HookReport",
    "HookRole",
    "Init",
    "Piece",
    "as_hooks",
    "check_filled",
    "check_part",
    "hook_traits",
    "hooks_identity",
    "register_hook",
    "start",
]
