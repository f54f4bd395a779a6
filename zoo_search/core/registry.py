"""Things by name: ours, those that users register, and functions of importable modules.

One registry a kind of thing (proxies, samplers, metrics, init hooks, data sources). A new one of
ours is a file and a line in its registry; nothing is imported for a name before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from zoo_search.core.errors import UserError, clipped, nearest
from zoo_search.core.identity import code_identity
from zoo_search.core.imports import PREFIX, import_named

T = TypeVar("T", bound=Callable[..., object])
F = TypeVar("F", bound=Callable[..., object])
D = TypeVar("D")


class Registry(Generic[T]):
    """Callables of one kind by name.

    A name is one of ours, one that was registered, one that an installed package declares in its
    entry points, or ``module:package.mod:function``; in this order.

    Example:
        >>> colours = Registry[Callable[[], str]]("colour", {"pi": "math:fsum"}, "my.colours")
        >>> @colours.register("red")
        ... def red() -> str:
        ...     return "#ff0000"
        >>> list(colours), colours.get("red", "here")()
        (['pi', 'red'], '#ff0000')
        >>> colours.get("rad", "paint.colour")
        Traceback (most recent call last):
        zoo_search.core.errors.UserError: paint.colour: there is no colour 'rad'. Did you mean \
'red'? Allowed: pi, red, or 'module:package.mod:function' for a function of your own.

    Args:
        kind: What one of them is called in messages.
        ours: Where each of those that come with zoo-search is, as ``package.mod:attribute``.
        group: Entry points of installed packages that declare more of them.
        ending: What a name ends in where something else may stand in a run file, such as
            ``":NAME"``: ``"hf:NAME"`` is then what ``"hf:beans"`` means.
        hint: What else an unknown name should be answered with.
    """

    def __init__(
        self, kind: str, ours: Mapping[str, str], group: str, *, ending: str = "", hint: str = ""
    ) -> None:
        self.kind, self.group = kind, group
        self._ours = dict(ours)
        self._ending, self._hint = ending, hint
        self._registered: dict[str, T] = {}

    @property
    def ours(self) -> tuple[str, ...]:
        """The names that come with zoo-search."""
        return tuple(self._ours)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._ours, *self._registered))

    def __contains__(self, name: object) -> bool:
        return name in self._ours or name in self._registered

    def register(self, name: str) -> Callable[[F], F]:
        """Register one of a user's own under a name; a decorator.

        Registered anew from the same place (a notebook's cell that is run again, a module that is
        loaded again), it takes the place of the one before.

        Raises:
            UserError: If the name is one of ours, or has a colon, or is taken by something else.
        """
        article = "An" if self.kind[0] in "aeiou" else "A"
        refusal = f"{article} {self.kind} cannot be registered as '{name}':"
        if not name or name in self._ours or ":" in name.removesuffix(self._ending):
            raise UserError(
                f"{refusal} {', '.join(self._ours)} are taken, and a name has no colon."
            )

        def keep(found: F) -> F:
            before = self._registered.get(name)
            if before is not None and _place(before) != _place(found):
                raise UserError(
                    f"{refusal} {_place(before)} has this name. Choose another, or unregister that "
                    "one first."
                )
            self._registered[name] = cast(T, found)
            return found

        return keep

    def unregister(self, name: str) -> None:
        """Take away what a user registered under a name, if anything."""
        self._registered.pop(name, None)

    def check(self, names: Iterable[str], where: str) -> None:
        """Raise as :meth:`get` does, without importing what is ours."""
        for name in names:
            if self._key(name, self) not in self:
                self.get(name, where)

    def get(self, name: str, where: str) -> T:
        """Return what has a name; ``where`` says in messages where it is written.

        Raises:
            UserError: If there is nothing of that name (tells the nearest and all that are
                allowed), or it cannot be imported.
        """
        key = self._key(name, self)
        if key in self._registered:
            return self._registered[key]
        if key in self._ours:
            return cast(T, import_named(self._ours[key], where))
        place = f"{where}: the {self.kind} '{name}'"
        if name.startswith(PREFIX):
            return cast(T, import_named(name, place))
        installed = {point.name: point.value for point in entry_points(group=self.group)}
        if (key := self._key(name, installed)) in installed:
            return cast(T, import_named(installed[key], place))
        known = [*self, *installed]
        raise UserError(
            f"{where}: there is no {self.kind} '{clipped(name)}'.{nearest(name, known)} Allowed: "
            f"{', '.join(known)}, or '{PREFIX}package.mod:function' for a function of your own."
            f"{self._hint}"
        )

    def identity(self, names: Iterable[str], where: str) -> dict[str, list[object]]:
        """Return the code of each that is a user's own, by name, JSON-like.

        It belongs to the identity of whatever they make; with names of ours alone it is empty.
        """
        own = [name for name in dict.fromkeys(names) if self._key(name, self) not in self._ours]
        return {name: code_identity(self.get(name, where)) for name in own}

    def _key(self, name: str, known: Container[str]) -> str:
        """Return what a name is known under: itself, or with the ending in an argument's place."""
        key = name.partition(":")[0] + self._ending
        return key if self._ending and ":" in name and key in known else name


def with_traits(traits: object) -> Callable[[F], F]:
    """Keep with a thing what it says of itself; a decorator."""

    def keep(found: F) -> F:
        found.traits = traits  # type: ignore[attr-defined]
        return found

    return keep


def traits_of(found: object, silent: D) -> D:
    """Return what a thing says of itself; ``silent`` is what holds for one that says nothing."""
    traits = getattr(found, "traits", None)
    return traits if isinstance(traits, type(silent)) else silent


def _place(found: object) -> str:
    """Return where something was defined, as ``module.qualname``."""
    named = found if hasattr(found, "__qualname__") else type(found)
    return f"{named.__module__}.{getattr(named, '__qualname__', '')}"
