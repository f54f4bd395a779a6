"""Init hooks by name, what each says of itself, and what a run file asks of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import nn

from zoo_search.core import registry
from zoo_search.core.errors import UserError, first_line, require
from zoo_search.core.identity import code_identity
from zoo_search.core.registry import Registry, with_traits
from zoo_search.hooks.context import ROLES, Context, Facts, Filled, HookRole

Hook = Callable[[nn.Module, Context], Filled | Facts | None]
"""Starts the pieces of a module in place; may return facts for the report."""

H = TypeVar("H", bound=Hook)

HOOKS = Registry[Hook](
    "init hook",
    {
        "dpiat": "zoo_search.dpiat.hook:dpiat",
        "least_squares": "zoo_search.networks.least_squares:least_squares",
        "random": "zoo_search.hooks.registry:keep_random",
    },
    group="zoo_search.hooks",
)


@dataclass(frozen=True)
class Traits:
    """What a run file may ask of a hook."""

    roles: tuple[HookRole, ...] = ROLES
    """The roles that it has a part in."""
    options: tuple[str, ...] | None = None
    """Names of the options that it takes; None: any."""
    check: Callable[[str, object], None] | None = None
    """Checks one option's value; its ``UserError`` is told with the place in the run file."""

    def check_options(self, hook: str, options: Mapping[str, Any], where: str) -> None:
        """Raise a UserError if a hook takes no such option, or not this value of it."""
        for option, value in options.items():
            place = f"{where}.options: the init hook '{hook}'"
            if self.options == ():
                raise UserError(f"{place} takes none. Leave them out.")
            if self.options is not None:
                require(option, self.options, f"{place} has no option '{option}'.")
            try:
                if self.check is not None:
                    self.check(option, value)
            except UserError as error:
                raise UserError(f"{where}.options.{option}: {error}") from None


def hook_traits(
    roles: tuple[HookRole, ...] = ROLES,
    options: tuple[str, ...] | None = None,
    check: Callable[[str, object], None] | None = None,
) -> Callable[[H], H]:
    """Say what a hook has a part in and which options it takes; a decorator.

    What a run file asks of it is then checked before anything is computed. See :class:`Traits`.
    """
    return with_traits(Traits(roles, options, check))


def traits_of(hook: Hook) -> Traits:
    """Return what a hook says of itself; a hook that says nothing may be asked for everything."""
    return registry.traits_of(hook, Traits())


@runtime_checkable
class NamedHook(Protocol):
    """A hook as a run file asks for it (:class:`zoo_search.config.HookConfig`)."""

    hook: str
    roles: tuple[HookRole, ...]
    options: dict[str, object]


@dataclass(frozen=True)
class BoundHook:
    """A hook with what the run file says of it."""

    name: str
    call: Hook
    roles: tuple[HookRole, ...] = ROLES
    """The roles that it is called for."""
    options: Facts = field(default_factory=dict)
    """Given to it as ``context.options``."""

    @property
    def ours(self) -> bool:
        """Whether it comes with zoo-search."""
        return self.name in HOOKS.ours and getattr(self.call, "__module__", "").startswith(
            "zoo_search."
        )

    @property
    def identity(self) -> list[Any]:
        """What decides on what it does, JSON-like: for a user's hook its own source code, too."""
        return [self.name, dict(self.options), [] if self.ours else code_identity(self.call)]


One = str | NamedHook | Facts | Hook | BoundHook
Init = One | Sequence[One]
"""One hook or an ordered list of hooks: names, sections of a run file, or functions."""


def register_hook(name: str) -> Callable[[H], H]:
    """Register an init hook under a name that run files can use; a decorator.

    A hook is called with the module and a :class:`~zoo_search.hooks.context.Context`; it fills
    ``context.pieces`` in place and may return facts. Whoever starts ``zoo-search`` from the command
    line names the function in the run file instead (``module:package.mod:function``), or declares
    it in the package's entry points, group ``zoo_search.hooks``. Registering the same hook again
    replaces it.

    Raises:
        UserError: If the name is one of ours, looks like a path, or is another hook's.
    """
    return HOOKS.register(name)


@hook_traits(options=())
def keep_random(module: nn.Module, context: Context) -> Filled:
    """Leave the seeded random values that every piece starts with: the hook ``random``."""
    return Filled(kept=True)


def as_hooks(init: Init, where: str = "init") -> tuple[BoundHook, ...]:
    """Return the hooks that a run file, or a caller, asks for at ``where``, in order.

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
    name, roles, options = _asked(item, where)
    call = item if callable(item) else HOOKS.get(name, where)
    _check_signature(name, call, where)
    traits = traits_of(call)
    traits.check_options(name, options, where)
    common = tuple(role for role in roles if role in traits.roles)
    if not common:
        raise UserError(
            f"{where}.roles: the init hook '{name}' has a part in {', '.join(traits.roles)} only."
        )
    return BoundHook(name, call, common, options)


def _asked(item: One, where: str) -> tuple[str, tuple[HookRole, ...], Facts]:
    """Return the name, the roles and the options that are asked for."""
    if isinstance(item, str):
        return item, ROLES, {}
    if isinstance(item, Mapping):
        return _read(item, where)
    if isinstance(item, NamedHook):
        return item.hook, item.roles, item.options
    if not callable(item):
        raise UserError(
            f"{where}: a {type(item).__name__} is no init hook. Give a name, a mapping with the "
            "key 'hook', or a function of (module, context)."
        )
    return getattr(item, "__name__", type(item).__name__), ROLES, {}


def _read(item: Facts, where: str) -> tuple[str, tuple[HookRole, ...], Facts]:
    """Return what a mapping asks for."""
    given = {"roles": ROLES, "options": {}, **item}
    name, roles, options = given.pop("hook", None), given.pop("roles"), given.pop("options")
    why = ""
    if given:
        why = f"unknown key '{next(iter(given))}'"
    elif not isinstance(name, str):
        why = "the key 'hook' has to be a name"
    elif not isinstance(roles, list | tuple) or not roles or not set(roles) <= set(ROLES):
        why = f"roles has to be a list of {', '.join(ROLES)}"
    elif not isinstance(options, Mapping):
        why = "options has to be a mapping"
    if why:
        raise UserError(
            f"{where}: {dict(item)} is no hook ({why}). Allowed keys: hook, roles, options."
        )
    return name, tuple(roles), options


def _check_signature(name: str, call: Hook, where: str) -> None:
    """Check that a hook takes the two arguments that it will get."""
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # built in, without a signature
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise UserError(
            f"{where}: the init hook '{name}' takes {signature}, but is called with a module and "
            f"a context ({first_line(error)}). Write it as: def hook(module, context)."
        ) from None
