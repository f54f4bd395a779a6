"""The table that ends a run: winners and baselines, for the terminal and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo_search.report.verdict import final_accuracy, verdict
from zoo_search.store import RunStore

__all__ = ["ROLES", "Summary", "summary"]

ROLES = {
    "reassembly": "reassembly",
    "single": "single model",
    "random": "random recipe",
    "plain": "plain model",
    "variant": "changed winner",
}
"""What each role in ``winners.json`` is called."""


@dataclass(frozen=True)
class Summary:
    """What a run ended with.

    Attributes:
        rows: One a network, best first, JSON-ready.
        columns: Field to heading, for :func:`zoo_search.tables.show`.
        verdict: Whether reassembly paid.
        report: Path of the report; None before that step is made.
        winner: Folder of the best reassembly.
    """

    rows: list[dict[str, Any]]
    columns: dict[str, str]
    verdict: str
    report: str | None
    winner: str


def summary(store: RunStore) -> Summary:
    """Read ``winners.json`` into the closing table of a run."""
    winners = store.read_json("winners.json")
    results = sorted(winners["results"], key=final_accuracy, reverse=True)
    protocols = list(dict.fromkeys(name for r in winners["results"] for name in r["protocols"]))
    told = verdict(results, winners["test_images"])
    columns = {
        "name": "network",
        "role": "what it is",
        "blocks": "blocks",
        "params_m": "parameters (M) #",
        "macs_m": "MACs (M) #",
        **{f"{protocol}_percent": f"{protocol.upper()} test % #" for protocol in protocols},
    }
    folder = next(result["folder"] for result in results if result["name"] == told.winner)
    return Summary(
        [_row(result) for result in results],
        columns,
        told.text,
        store.path("report.html") if store.exists("report.html") else None,
        store.path(folder),
    )


def _row(result: dict[str, Any]) -> dict[str, Any]:
    blocks = result["recipe"]["blocks"]
    return {
        "name": result["name"],
        "role": ROLES[result["role"]],
        "blocks": " + ".join(f"{b['model']} {b['start']}-{b['stop']}" for b in blocks),
        "params": result["params"],
        "macs": result["macs"],
        "params_m": f"{result['params'] / 1e6:.2f}",
        "macs_m": f"{result['macs'] / 1e6:.1f}",
        **{
            f"{protocol}_percent": f"{100 * record['test_accuracy']:.1f}"
            for protocol, record in result["protocols"].items()
        },
    }
