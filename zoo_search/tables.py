"""Tables for the terminal, and the same rows as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["show"]


def show(
    title: str,
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    as_json: bool = False,
) -> None:
    """Print rows as a table, or all their fields as a JSON list.

    Args:
        title: Printed above the table.
        rows: JSON-ready mappings.
        columns: Field to heading, in order; a heading that ends in ``#`` is set to the right.
        as_json: Print JSON on standard output instead.
    """
    rows = list(rows)
    if as_json:
        json.dump(rows, sys.stdout, indent=1)
        print()
        return
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for heading in columns.values():
        table.add_column(heading.removesuffix("#").strip(), justify=_side(heading))
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in columns))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(160, console.width))
    console.print(table)


def _side(heading: str) -> Any:
    return "right" if heading.endswith("#") else "left"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "×".join(str(part) for part in value)
    return str(value)
