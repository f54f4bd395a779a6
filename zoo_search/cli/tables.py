"""Tables on the terminal, and the same rows as JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence

import rich.table
from rich.console import Console
from rich.text import Text

from zoo_search.core.redaction import redacted_values, shown
from zoo_search.core.tables import Column, Row, Table


def show(table: Table, as_json: bool = False) -> None:
    """Print a table, or all fields of its rows as a JSON list on standard output."""
    if as_json:
        json.dump(redacted_values(list(table.rows)), sys.stdout, indent=1)
        print()
        return
    drawn = rich.table.Table(
        title=Text(shown(table.title), style="bold"), title_justify="left", header_style="dim"
    )
    for column in table.columns:
        drawn.add_column(Text(column.heading), justify="right" if column.right else "left")
    for row in table.rows:
        drawn.add_row(*(Text(_cell(row, column)) for column in table.columns))
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=max(160, console.width))
    console.print(drawn)


def paragraph(words: str) -> None:
    """Print what is told beside a table, after a blank line, broken at words within 80 columns."""
    print(f"\n{textwrap.fill(shown(words), 80, break_long_words=False, break_on_hyphens=False)}")


def _cell(row: Row, column: Column) -> str:
    return _words(row.get(column.field)) if column.shown is None else shown(column.shown(row))


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return shown("×".join(map(str, value)))
    return shown(str(value))
