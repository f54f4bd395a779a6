"""Init hooks by name: ours, those that users register, and functions of importable modules."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import nn

from zoo_search.config import HOOK_ROLES, HookConfig, HookRole
from zoo_search.errors import UserError, first_line, nearest
from zoo_search.hooks.context import Context, Filled
from zoo_search.named import PREFIX, import_named

__all__ = ["BoundHook", "Hook", "Init", "as_hooks", "hooks_identity", "register_hook"]

Hook = Callable[[nn.Module, Context], Filled | Mapping[str, Any] | None]
"""Starts the pieces of a module in place; may return facts for the report."""

_GROUP = "zoo_search.hooks"


@dataclass(frozen=True)
class _Own:
    """A hook that comes with zoo-search: where it is, who checks its options, its roles."""

    path: str
    check: str | None = None
    roles: tuple[HookRole, ...] = HOOK_ROLES


_OURS = {
    "dpiat": _Own("zoo_search.dpiat.hook:dpiat", check="zoo_search.dpiat.hook:check_options"),
    "least_squares": _Own("zoo_search.reassembly.starts:least_squares", roles=("candidate",)),
    "random": _Own("zoo_search.hooks.random_start:keep_random"),
}
_REGISTERED: dict[str, Hook] = {}

H = TypeVar("H", bound=Hook)


@dataclass(frozen=True)
class BoundHook:
    """A hook with what the run file says of it.

    Attributes:
        name: Its name.
        call: The hook.
        roles: The roles that it is called for.
        options: Given to it as ``context.options``.
    """

    name: str
    call: Hook
    roles: tuple[HookRole, ...] = HOOK_ROLES
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it comes with zoo-search."""
        return self.name in _OURS and getattr(self.call, "__module__", "").startswith("zoo_search.")

    @property
    def identity(self) -> list[Any]:
        """What decides on what it does, JSON-like: for a user's hook its own source code, too."""
        return [self.name, dict(self.options), [] if self.ours else _code(self.call)]


def _code(call: Any) -> list[Any]:
    """Return a function's source and the values bound to it; not the source of what it calls."""
    if isinstance(call, functools.partial):
        return [_code(call.func), repr(call.args), repr(sorted(call.keywords.items()))]
    held = [repr(cell.cell_contents) for cell in getattr(call, "__closure__", None) or ()]
    if not inspect.isroutine(call):
        held, call = [repr(vars(call))], type(call)
    try:
        return [hashlib.sha256(inspect.getsource(call).encode()).hexdigest(), held]
    except (OSError, TypeError):  # made without a file
        return [f"{call.__module__}.{call.__qualname__}", held]


One = str | HookConfig | Mapping[str, Any] | Hook | BoundHook
Init = One | Sequence[One]
"""One hook or an ordered list of hooks: names, sections of a run file, or functions."""


def register_hook(name: str) -> Callable[[H], H]:
    """Register an init hook under a name that run files can use; a decorator.

    A hook is called with the module and a :class:`~zoo_search.hooks.context.Context`; it fills
    ``context.pieces`` in place and may return facts. Whoever starts ``zoo-search`` from the command
    line names the function in the run file instead (``module:package.mod:function``), or declares
    it in the package's entry points, group ``zoo_search.hooks``.

    Args:
        name: The name; registering it again replaces the hook.

    Raises:
        UserError: If the name is one of ours or looks like a path.
    """
    if name in _OURS or ":" in name or not name:
        raise UserError(
            f"An init hook cannot be registered as '{name}': {', '.join(_OURS)} are taken, and a "
            "name has no colon."
        )

    def keep(hook: H) -> H:
        _REGISTERED[name] = hook
        return hook

    return keep


def as_hooks(init: Init, where: str = "init") -> tuple[BoundHook, ...]:
    """Return the hooks that a run file, or a caller, asks for, in order.

    Args:
        init: Names, sections of a run file, or the hooks themselves.
        where: Where it is written, for messages.

    Raises:
        UserError: If there is no such hook (names the nearest one), it does not take its options,
            has no part in its roles, or cannot be called with a module and a context.
    """
    items = [init] if isinstance(init, str) or not isinstance(init, Sequence) else init
    return tuple(_bind(item, f"{where}.{place}") for place, item in enumerate(items))


def hooks_identity(init: Init, role: HookRole) -> list[Any]:
    """Return what decides on what the hooks do to modules of a role, JSON-like."""
    return [hook.identity for hook in as_hooks(init) if role in hook.roles]


def _bind(item: One, where: str) -> BoundHook:
    if isinstance(item, BoundHook):
        return item
    if isinstance(item, str):
        item = HookConfig(hook=item)
    if isinstance(item, Mapping):
        try:
            item = HookConfig.model_validate(dict(item))
        except ValidationError as error:
            raise UserError(
                f"{where}: {dict(item)} is no hook ({first_line(error.errors()[0]['msg'])}). "
                "Allowed keys: hook, roles, options."
            ) from None
    if isinstance(item, HookConfig):
        if item.hook in _OURS:
            return _bind_own(item, _OURS[item.hook], where)
        call = _callable(item.hook, _find(item.hook, where), where)
        return BoundHook(item.hook, call, item.roles, item.options)
    if not callable(item):
        raise UserError(
            f"{where}: a {type(item).__name__} is no init hook. Give a name, a mapping with the "
            "key 'hook', or a function of (module, context)."
        )
    name = getattr(item, "__name__", type(item).__name__)
    return BoundHook(name, _callable(name, item, where))


def _bind_own(item: HookConfig, own: _Own, where: str) -> BoundHook:
    roles = tuple(role for role in item.roles if role in own.roles)
    if not roles:
        raise UserError(
            f"{where}.roles: the init hook '{item.hook}' has a part in {', '.join(own.roles)} only."
        )
    if own.check is not None:
        import_named(own.check, where)(item.options, f"{where}.options")
    elif item.options:
        raise UserError(f"{where}.options: the init hook '{item.hook}' takes none. Leave them out.")
    return BoundHook(item.hook, import_named(own.path, where), roles, item.options)


def _callable(name: str, call: Hook, where: str) -> Hook:
    """Check that a user's hook takes the two arguments that it will get."""
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # built in, without a signature
        return call
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise UserError(
            f"{where}: the init hook '{name}' takes {signature}, but is called with a module and "
            f"a context ({first_line(error)}). Write it as: def hook(module, context)."
        ) from None
    return call


def _find(name: str, where: str) -> Hook:
    if name in _REGISTERED:
        return _REGISTERED[name]
    place = f"{where}: the init hook '{name}'"
    if name.startswith(PREFIX):
        return import_named(name, place)
    installed = {point.name: point for point in entry_points(group=_GROUP)}
    if name in installed:
        return import_named(installed[name].value, place)
    known = [*_OURS, *_REGISTERED, *installed]
    raise UserError(
        f"{where}: there is no init hook '{name}'.{nearest(name, known)} Allowed: "
        f"{', '.join(known)}, or 'module:package.mod:function' for a function of your own."
    )
