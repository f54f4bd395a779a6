"""What every section of a run file is: frozen, without unknown keys, with an identity."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from zoo_search.config.paths import ResolvedPath, as_given
from zoo_search.core.errors import clipped

UNHASHED = "unhashed"
"""Marks a field that says how a result is made and does not change it."""
LATE = "late"
"""Marks a field that came after the first runs: at its default no identity holds it."""

_ALL, _HASHED = "all fields under first names", "those that are hashed"  # contexts of a dump
_GIVEN = "paths as they were written"
_LOCAL = "local"  # stands for a path in an identity
_spelled = ContextVar("spelled", default=False)


@contextlib.contextmanager
def as_spelled() -> Iterator[None]:
    """Let identities inside the block hold paths as they were written, as they once did."""
    token = _spelled.set(True)
    try:
        yield
    finally:
        _spelled.reset(token)


def is_spelled() -> bool:
    """Say whether identities hold paths as they were written (:func:`as_spelled`)."""
    return _spelled.get()


def as_list(value: object) -> object:
    """Take a single value where a list is meant for a list of one; for a ``BeforeValidator``."""
    return [value] if isinstance(value, str | int | float | Mapping) else value


AsList = BeforeValidator(as_list)
""":func:`as_list` as a mark of a field."""


def _plain(value: dict[str, object]) -> dict[str, object]:
    """Refuse what a run file cannot hold and give back: dates, bytes, sets, objects of Python's."""
    waiting: list[tuple[str, object]] = list(value.items())
    while waiting:
        key, inner = waiting.pop()
        if isinstance(inner, Mapping):
            waiting += [(f"{key}.{name}", each) for name, each in inner.items()]
        elif isinstance(inner, list | tuple):
            waiting += [(f"{key}.{place}", each) for place, each in enumerate(inner)]
        elif inner is not None and not isinstance(inner, str | int | float):
            raise ValueError(
                f"'{clipped(key)}' is {clipped(repr(inner))}; text, numbers, true, false, null, "
                "lists and mappings of these can stand here. Quote it, if text is meant"
            )
    return value


Plain = Annotated[dict[str, object], AfterValidator(_plain)]
"""Arguments or options that others understand, of values that YAML and JSON both know."""


@dataclass(frozen=True)
class Renamed:
    """Marks a field that once had another name; run files may, and identities do use it still."""

    old: str


class Section(BaseModel):
    """A part of the run file: frozen, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @classmethod
    def renamed(cls) -> dict[str, str]:
        """Return the old name of each field that has one, by its name of today."""
        return {
            name: mark.old
            for name, field in cls.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Renamed)
        }

    def identity(
        self, *, without: Collection[str] = (), unhashed: bool = False
    ) -> dict[str, object]:
        """Return what decides on a result, JSON-like; a step is made from this part of the config.

        It stands under the names that fields had first, so that a new name makes no finished run
        out of date; with ``unhashed``, fields that change no result count, too. Of a local path it
        holds that there is one and not where: the content of what lies there is hashed beside it.
        """
        context = _ALL if unhashed else _HASHED
        return self.model_dump(mode="json", exclude=set(without), context=context)

    def paths(self) -> dict[str, ResolvedPath]:
        """Return every local path in this section and in those inside it, by its place."""
        found = {}
        for name, value in self:
            inner = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {}
            for place, each in (inner or {name: value}).items():
                if isinstance(each, ResolvedPath):
                    found[place] = each
                elif isinstance(each, Section):
                    found |= {f"{place}.{key}": path for key, path in each.paths().items()}
        return found

    def as_given(self) -> dict[str, object]:
        """Return what is not at its default, JSON-like, with paths as they were written."""
        return self.model_dump(mode="json", exclude_defaults=True, context=_GIVEN)

    @model_serializer(mode="wrap")
    def _dump(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, object]:
        # Pydantic calls this for every section inside another one, so that marks count wherever
        # they stand.
        dumped: dict[str, object] = handler(self)
        fields, first = type(self).model_fields, self.renamed()
        hashed = info.context in (_ALL, _HASHED)
        for name, value in self:
            if isinstance(value, ResolvedPath) and name in dumped:
                blank = hashed and not is_spelled() and UNHASHED not in fields[name].metadata
                told = as_given(value) if hashed or info.context == _GIVEN else str(value)
                dumped[name] = _LOCAL if blank else told
        if not hashed:
            return dumped
        return {
            first.get(name, name): value
            for name, value in dumped.items()
            if (info.context == _ALL or UNHASHED not in fields[name].metadata)
            and not (LATE in fields[name].metadata and getattr(self, name) == fields[name].default)
        }
