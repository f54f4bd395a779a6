"""Tables as values: rows with fields, and which field is shown under which heading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, object]
"""JSON-ready values by field."""


@dataclass(frozen=True)
class Column:
    """A column: the field of the rows, its heading, whether it is set to the right.

    ``shown`` writes a row's cell for people, where the value as it is would say less.
    """

    field: str
    heading: str
    right: bool = False
    shown: Callable[[Row], str] | None = None


@dataclass(frozen=True)
class Table:
    """Rows under a title; a row may hold more fields than there are columns."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def text(field: str, heading: str | None = None) -> Column:
    """Return a column of words; its heading is the field if none is given."""
    return Column(field, field if heading is None else heading)


def number(
    field: str, heading: str | None = None, shown: Callable[[Row], str] | None = None
) -> Column:
    """Return a column of numbers, set to the right; its heading is the field if none is given."""
    return Column(field, field if heading is None else heading, right=True, shown=shown)


def mega(field: str) -> Callable[[Row], str]:
    """Return how a field is shown in units of 10^6, with three digits."""
    return lambda row: in_units(row.get(field), 1e6)


def giga(field: str) -> Callable[[Row], str]:
    """Return how a field is shown in units of 10^9, with three digits."""
    return lambda row: in_units(row.get(field), 1e9)


def in_units(value: object, unit: float) -> str:
    """Return a number in units, with three digits and without an exponent; a dash if none."""
    if not isinstance(value, int | float):
        return "–"
    size = abs(value) / unit
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value / unit:.{decimals}f}"


def duration(seconds: float) -> str:
    """Return a time in its largest unit and the next: ``8 s``, ``3 min 5 s``, ``2 h 4 min``."""
    rest = max(0, round(seconds))
    said: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or said:
            said.append(f"{count} {unit}")
    return " ".join(said[:2]).removesuffix(" 0 s").removesuffix(" 0 min") or "0 s"
