"""Hooks one after the other, and a measured report of each."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo_search.config import HookRole
from zoo_search.errors import UserError, first_line
from zoo_search.hooks.context import Context, Filled, HookReport
from zoo_search.hooks.guard import Guard
from zoo_search.hooks.registry import BoundHook

__all__ = ["check_filled", "check_part", "start"]

_TASK = "this network has no weights, and the hooks of init have to fill it, but"


def start(
    module: nn.Module, context: Context, hooks: Iterable[BoundHook]
) -> tuple[HookReport, ...]:
    """Call the hooks that have a part in ``context.role`` on ``module``, in order.

    Each finds what those before it have left, and torch's random state seeded by ``context.seed``.
    What it changed is measured, not taken from its word.

    Args:
        module: Filled in place.
        context: What the hooks are told.
        hooks: In order.

    Raises:
        UserError: If a user's hook fails, or changes weights that are pre-trained (other networks
            share them, and they are put back); if a hook leaves values that are not finite.
    """
    return tuple(_call(module, context, hook) for hook in hooks if context.role in hook.roles)


def check_part(place: str, role: HookRole, hooks: Iterable[BoundHook]) -> None:
    """Check, before anything is built, that some hook has a part in a role.

    Args:
        place: Where the network stands in the run file, for the message.
        role: What the network is.
        hooks: In order.

    Raises:
        UserError: If there is none.
    """
    if not any(role in hook.roles for hook in hooks):
        raise _unfilled(place, "none of them has a part in it")


def check_filled(place: str, reports: Sequence[HookReport]) -> None:
    """Check that hooks have filled a whole network, or that random values are asked for.

    Args:
        place: Where the network stands in the run file, for the message.
        reports: What the hooks did.

    Raises:
        UserError: If nothing was changed and the hook ``random`` was not called.
    """
    if any(report.changed or report.hook == "random" for report in reports):
        return
    called = [report.hook for report in reports]
    if "dpiat" in called:
        raise UserError(
            f"{place}: {_TASK} dpiat found no model of the zoo that has weights to give. Give at "
            "least one a source such as timm, or add random to init for a start from scratch."
        )
    words = f"{', '.join(called)} changed nothing" if called else "none of them has a part in it"
    raise _unfilled(place, words)


def _unfilled(place: str, why: str) -> UserError:
    return UserError(
        f"{place}: {_TASK} {why}. Add dpiat to init (it takes weights from the most similar "
        "network that has some), or random for a start from scratch."
    )


@torch.no_grad()
def _call(module: nn.Module, context: Context, hook: BoundHook) -> HookReport:
    context = replace(context, options=hook.options)
    before = {name: tensor.clone() for name, tensor in context.fresh.items()}
    guard = None if hook.ours else _guard(module, context)
    began = time.perf_counter()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            said = hook.call(module, context)
    except Exception as error:
        if guard is not None:
            guard.changed()
        if hook.ours or isinstance(error, UserError):
            raise
        raise UserError(
            f"The init hook '{hook.name}' failed on {context.name} ({context.role}): "
            f"{type(error).__name__}: {first_line(error)}{_line(error)}. Mend the hook, or leave "
            "it out of init."
        ) from error
    seconds = time.perf_counter() - began
    where = f"The init hook '{hook.name}', called on {context.name} ({context.role}),"
    if guard is not None and guard.changed():
        raise UserError(
            f"{where} changed pre-trained weights. Other networks share them: change only what "
            "context.pieces hold."
        )
    # Asked for anew: a hook may have put another parameter in the place of one.
    after = replace(context).fresh
    _check(where, before, after)
    filled = _filled(said, where)
    return HookReport(
        hook=hook.name,
        role=context.role,
        values=sum(tensor.numel() for tensor in after.values()),
        changed=sum(int((after[name] != old).sum()) for name, old in before.items()),
        fitted=filled.fitted,
        seconds=round(seconds, 6),
        facts=filled.facts,
        name=context.name,
    )


def _line(error: BaseException) -> str:
    """Say where in the hook an error came from: the first line outside of this file."""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename != __file__:
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""


def _guard(module: nn.Module, context: Context) -> Guard:
    donors = [donor for piece in context.pieces for donor in piece.donors.values()]
    free = [piece.module for piece in context.pieces]
    # Scoring goes on with the same blocks after a candidate that failed; elsewhere the run ends.
    return Guard([module, *donors], free, copies=context.role == "candidate")


def _check(where: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    forms = [
        {name: (tuple(t.shape), t.dtype, t.device) for name, t in state.items()}
        for state in (before, after)
    ]
    if forms[0] != forms[1]:
        raise UserError(
            f"{where} changed names, shapes, types or devices of tensors. Fill what is there."
        )
    wrong = [n for n, t in after.items() if t.is_floating_point() and not t.isfinite().all()]
    if wrong:
        raise UserError(
            f"{where} left values that are not finite in {wrong[0]}. Fill in finite numbers."
        )


def _filled(said: object, where: str) -> Filled:
    """Return what a hook told, with facts that JSON can hold."""
    filled = said if isinstance(said, Filled) else Filled({} if said is None else said)  # type: ignore[arg-type]
    try:
        if not isinstance(filled.facts, Mapping):
            raise TypeError(f"a {type(said).__name__}")
        facts = json.loads(json.dumps(dict(filled.facts), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where} returned what is not JSON ({first_line(error)}). Return a mapping of texts, "
            "numbers, lists and mappings, or None."
        ) from None
    return Filled(facts, filled.fitted)
