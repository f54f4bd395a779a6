"""Tables as values: rows with fields, and which field is shown under which heading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, object]
"""JSON-ready values by field."""


@dataclass(frozen=True)
class Column:
    """A column: the field of the rows, its heading, and whether it is set to the right."""

    field: str
    heading: str
    right: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a title; a row may hold more fields than there are columns."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def text(field: str, heading: str | None = None) -> Column:
    """Return a column of words; its heading is the field if none is given."""
    return Column(field, field if heading is None else heading)


def number(field: str, heading: str | None = None) -> Column:
    """Return a column of numbers, set to the right; its heading is the field if none is given."""
    return Column(field, field if heading is None else heading, right=True)
