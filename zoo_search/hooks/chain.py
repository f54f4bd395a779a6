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

from zoo_search.core.errors import UserError, first_line, nearest
from zoo_search.hooks.context import Context, Filled, HookRole, Piece
from zoo_search.hooks.guard import Guard
from zoo_search.hooks.registry import BoundHook
from zoo_search.hooks.report import HookReport

_TASK = "this network has no weights, and the hooks of init have to fill it, but"


def start(
    module: nn.Module, context: Context, hooks: Iterable[BoundHook]
) -> tuple[HookReport, ...]:
    """Call the hooks that have a part in ``context.role`` on ``module``, in order.

    Each finds what those before it have left, and torch's random state seeded by ``context.seed``.
    What it changed is measured, not taken from its word.

    Raises:
        UserError: If a user's hook fails, or changes weights that are pre-trained (other networks
            share them, and they are put back); if a hook leaves values that are not finite.
    """
    return tuple(_call(module, context, hook) for hook in hooks if context.role in hook.roles)


def check_part(place: str, role: HookRole, hooks: Iterable[BoundHook]) -> None:
    """Raise a UserError if no hook has a part in a network at ``place``, which is not built yet."""
    if not any(role in hook.roles for hook in hooks):
        raise _unfilled(place, "none of them has a part in it")


def check_filled(place: str, piece: Piece, reports: Sequence[HookReport]) -> None:
    """Check that hooks have filled a whole network, or kept its random values on purpose.

    Raises:
        UserError: If nothing was changed, and no hook says that this is a choice; ``place`` is
            where the network stands in the run file.
    """
    if any(report.changed or report.kept for report in reports):
        return
    called = ", ".join(report.hook for report in reports)
    if called and not piece.donors:
        raise UserError(
            f"{place}: {_TASK} {called} found no model of the zoo that has weights to give. Give "
            "at least one a source such as timm, or add random to init for a start from scratch."
        )
    raise _unfilled(
        place, f"{called} changed nothing" if called else "none of them has a part in it"
    )


def _unfilled(place: str, why: str) -> UserError:
    return UserError(
        f"{place}: {_TASK} {why}. Add dpiat to init (it takes weights from the most similar "
        "network that has some), or random for a start from scratch."
    )


@torch.no_grad()
def _call(module: nn.Module, context: Context, hook: BoundHook) -> HookReport:
    context = replace(context, options=hook.options)
    before = {name: tensor.clone() for name, tensor in context.fresh.items()}
    donors = [donor for piece in context.pieces for donor in piece.donors.values()]
    free = [piece.module for piece in context.pieces]
    shared = [] if hook.ours else [module, *donors]
    # Scoring goes on with the same blocks after a candidate that failed; elsewhere the run ends.
    guard = Guard(shared, free, copies=context.role == "candidate")
    began = time.perf_counter()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            said = hook.call(module, context)
    except Exception as error:
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
    if guard.changed():
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
        donors=_known_donors(filled.donors, context, where),
        summary=filled.summary,
        kept=filled.kept,
    )


def _line(error: BaseException) -> str:
    """Say where in the hook an error came from: the first line outside of this file."""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename != __file__:
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""


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
    return replace(filled, facts=facts)


def _known_donors(told: Sequence[str], context: Context, where: str) -> tuple[str, ...]:
    """Return the donors that a hook names; the licence and the pixels of a model follow them."""
    told = (told,) if isinstance(told, str) else tuple(told)
    known = [name for piece in context.pieces for name in piece.donors]
    if unknown := [name for name in told if name not in known]:
        raise UserError(
            f"{where} says that values come from '{unknown[0]}'.{nearest(unknown[0], known)} "
            f"It was given these donors: {', '.join(known) or 'none'}."
        )
    return told
