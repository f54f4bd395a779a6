"""Hooks one after the other, and a measured report of each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from zoo_search.errors import UserError, first_line
from zoo_search.hooks.context import Context, Filled, HookReport
from zoo_search.hooks.registry import BoundHook

__all__ = ["start"]


def start(
    module: nn.Module, context: Context, hooks: Iterable[BoundHook]
) -> tuple[HookReport, ...]:
    """Call the hooks that have a part in ``context.role`` on ``module``, in order.

    Each finds what those before it have left. What it changed is measured, not taken from its word.

    Args:
        module: Filled in place.
        context: What the hooks are told.
        hooks: In order.

    Raises:
        UserError: If a hook fails, leaves values that are not finite, or changes weights that are
            pre-trained: other networks share them.
    """
    return tuple(_call(module, context, hook) for hook in hooks if context.role in hook.roles)


@torch.no_grad()
def _call(module: nn.Module, context: Context, hook: BoundHook) -> HookReport:
    before = {name: tensor.clone() for name, tensor in context.fresh.items()}
    others = _versions(module, context)
    began = time.perf_counter()
    try:
        said = hook.call(module, replace(context, options=hook.options))
    except Exception as error:
        if hook.ours or isinstance(error, UserError):
            raise
        raise UserError(
            f"The init hook '{hook.name}' failed on {context.name} ({context.role}): "
            f"{type(error).__name__}: {first_line(error)}. Mend the hook, or leave it out of init."
        ) from error
    seconds = time.perf_counter() - began
    # Asked for anew: a hook may have put another parameter in the place of one.
    after = replace(context).fresh
    _check(hook, context, before, after, _versions(module, context) != others)
    filled = said if isinstance(said, Filled) else Filled(said or {})
    return HookReport(
        hook=hook.name,
        role=context.role,
        values=sum(tensor.numel() for tensor in after.values()),
        changed=sum(int((after[name] != old).sum()) for name, old in before.items()),
        fitted=filled.fitted,
        seconds=round(seconds, 6),
        facts=_plain(filled.facts, hook.name),
    )


def _versions(module: nn.Module, context: Context) -> dict[str, tuple[int, int]]:
    """What tells whether a pre-trained tensor was written to or replaced."""
    return {
        name: (id(tensor), tensor._version)
        for name, tensor in module.state_dict(keep_vars=True).items()
        if name not in context.fresh
    }


def _check(
    hook: BoundHook,
    context: Context,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    touched: bool,
) -> None:
    where = f"The init hook '{hook.name}', called on {context.name} ({context.role}),"
    if touched:
        raise UserError(
            f"{where} changed pre-trained weights. Other networks share them: change only what "
            "context.pieces hold."
        )
    shapes = [{name: tuple(t.shape) for name, t in state.items()} for state in (before, after)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{where} changed names or shapes of tensors. Fill what is there.")
    wrong = [n for n, t in after.items() if t.is_floating_point() and not t.isfinite().all()]
    if wrong:
        raise UserError(f"{where} left values that are not finite in {wrong[0]}.")


def _plain(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(facts), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The init hook '{name}' returned facts that are not JSON ({first_line(error)}). "
            "Return a mapping of texts, numbers, lists and mappings, or None."
        ) from None
    return found
