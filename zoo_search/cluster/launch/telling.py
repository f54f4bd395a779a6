"""What a launcher file would start, and what runs, with the price of an hour, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zoo_search.cluster.launch.file import LaunchFile, NodeType
from zoo_search.cluster.launch.launcher import Running
from zoo_search.cluster.launch.prices import REGIONS, note
from zoo_search.core.tables import Row, Table, number, text

UNKNOWN = "price unknown"


def plan_table(file: LaunchFile, workers: int | None = None) -> Table:
    """Return a row for each kind of machine: how many there will be, and what they cost an hour."""
    rows = [_plan_row(file, each, workers) for each in file.nodes]
    columns = (
        text("name", "node"), text("machine"), text("market"),
        number("least", "at once"), number("most", "at most"),
        number("each", "$ an hour, each", _dollars("each")),
        number("from", "at once", _dollars("from")), number("to", "at most", _dollars("to")),
    )  # fmt: skip
    return Table(f"{file.name}: {file.provider}, {file.region}", columns, rows)


def plan_lines(file: LaunchFile, workers: int | None = None) -> list[str]:
    """Return what stands below the plan: price in all, image, storage, and what prices are."""
    rows = [_plan_row(file, each, workers) for each in file.nodes]
    idle = file.config.get("idle_timeout_minutes", 5)
    lines = [
        f"an hour   {_between(_sum(rows, 'from'), _sum(rows, 'to'))}",
        f"image     {file.image}",
        f"runs      {file.runs or 'not said (metadata.runs): give --dir a place all nodes reach'}",
        f"idle      workers without work end after {idle} minutes",
    ]
    if file.provider not in REGIONS:
        return [f"image     {file.image}", lines[2], "Your own machines: no price is known."]
    return [*lines, note(file.provider)]


def running_table(file: LaunchFile, found: Sequence[Running]) -> Table:
    """Return a row for each machine that runs."""
    rows = [
        {
            "id": each.id, "kind": each.kind, "type": each.type, "state": each.state,
            "address": each.address, "price": each.price,
        }
        for each in found
    ]  # fmt: skip
    columns = (
        text("id", "machine"), text("kind"), text("type"), text("state"), text("address"),
        number("price", "$ an hour", _dollars("price")),
    )  # fmt: skip
    return Table(f"{file.name}: {file.provider}, {file.region}", columns, rows)


def running_line(file: LaunchFile, found: Sequence[Running]) -> str:
    """Return what all machines that run cost an hour, in a sentence."""
    if not found:
        return f"Nothing of '{file.name}' runs, and nothing costs money but what is stored."
    if file.provider not in REGIONS:
        return "Your own machines: no price is known. Workers are known to the head alone."
    rows = [{"price": each.price} for each in found]
    return f"{len(found)} machines: {_one(_sum(rows, 'price'))} an hour. {note(file.provider)}"


def _plan_row(file: LaunchFile, each: NodeType, workers: int | None) -> Row:
    least = each.least if workers is None or each.is_head else min(workers, each.most)
    price = each.price
    return {
        "name": each.name,
        "machine": each.instance,
        "market": "your own" if file.provider == "local" else "spot" if each.spot else "on demand",
        "least": least,
        "most": each.most,
        "each": price,
        "from": price * least if price is not None else None if least else 0.0,
        "to": price * each.most if price is not None else None,
    }


def _sum(rows: Sequence[Row], field: str) -> tuple[float, bool]:
    """Return the sum of what is known, and whether that is all."""
    values = [row[field] for row in rows]
    known = [value for value in values if isinstance(value, float | int)]
    return float(sum(known)), len(known) == len(values)


def _one(total: tuple[float, bool]) -> str:
    dollars, whole = total
    return f"about ${dollars:.2f}" if whole else f"more than ${dollars:.2f} ({UNKNOWN} for some)"


def _between(least: tuple[float, bool], most: tuple[float, bool]) -> str:
    return f"{_one(least)} at once, {_one(most)} with all workers"


def _dollars(field: str) -> Callable[[Row], str]:
    def shown(row: Row) -> str:
        value = row.get(field)
        return f"{value:.2f}" if isinstance(value, float | int) else UNKNOWN

    return shown
