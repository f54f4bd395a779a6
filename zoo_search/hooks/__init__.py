"""Hooks that start what has no pre-trained weights: the list ``init`` of a run file."""

from zoo_search.hooks.chain import check_filled, check_part, start
from zoo_search.hooks.context import Context, Filled, HookReport, Piece
from zoo_search.hooks.registry import BoundHook, Init, as_hooks, hooks_identity, register_hook

__all__ = [
    "BoundHook",
    "Context",
    "Filled",
    "HookReport",
    "Init",
    "Piece",
    "as_hooks",
    "check_filled",
    "check_part",
    "hooks_identity",
    "register_hook",
    "start",
]
