"""Candidates and their file, ``candidates.parquet`` (``docs/design.md``, "Files of a run")."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zoo_search.reassembly.recipe import Recipe

__all__ = ["Candidate", "best_first", "from_table", "to_table"]

Kind = Literal["reassembly", "zoo"]
State = Literal["complete", "failed"]

_MEASURED = (("latency_ms", "latency", "float64"), ("memory", "memory", "int64"))


@dataclass(frozen=True)
class Candidate:
    """A recipe with its cost and its scores.

    Attributes:
        id: Number in the run, in the order in which candidates were proposed.
        recipe: What it is.
        kind: ``"zoo"`` for a zoo model with a new head, else ``"reassembly"``.
        params: Parameters.
        macs: Multiply-adds for one image.
        scores: Score by proxy; a proxy that failed is missing.
        state: ``"failed"`` if any proxy failed.
        reason: Why it failed, else empty.
        seconds: Time to assemble and score.
        latency: Milliseconds for a batch, where it was asked for.
        memory: Peak activation memory for one image in fp32, in bytes, where it was asked for.
        init: Reports of the init hooks, as plain values
            (:class:`zoo_search.hooks.HookReport`).
    """

    id: int
    recipe: Recipe
    kind: Kind
    params: int
    macs: int
    scores: Mapping[str, float]
    state: State
    reason: str
    seconds: float
    latency: float | None = None
    memory: int | None = None
    init: Sequence[Mapping[str, Any]] = ()


def best_first(candidates: Sequence[Candidate], proxy: str) -> list[Candidate]:
    """Return the complete candidates by one score, best first; equal scores by id."""
    complete = [c for c in candidates if c.state == "complete" and proxy in c.scores]
    return sorted(complete, key=lambda c: (-c.scores[proxy], c.id))


def to_table(
    candidates: Sequence[Candidate], proxies: Sequence[str], metadata: Mapping[str, Any]
) -> Any:
    """Return the candidates as a ``pyarrow.Table``: one row each, one column a proxy.

    ``latency_ms`` and ``memory`` are columns only where any candidate has them.
    """
    import pyarrow as pa

    columns = {
        "id": pa.array([c.id for c in candidates], pa.int32()),
        "kind": pa.array([c.kind for c in candidates], pa.string()),
        "recipe": pa.array([json.dumps(c.recipe.to_dict()) for c in candidates], pa.string()),
        "params": pa.array([c.params for c in candidates], pa.int64()),
        "macs": pa.array([c.macs for c in candidates], pa.int64()),
        "state": pa.array([c.state for c in candidates], pa.string()),
        "reason": pa.array([c.reason for c in candidates], pa.string()),
        "seconds": pa.array([c.seconds for c in candidates], pa.float64()),
        "init": pa.array([json.dumps(list(c.init)) for c in candidates], pa.string()),
    }
    for name, attribute, kind in _MEASURED:
        values = [getattr(c, attribute) for c in candidates]
        if any(value is not None for value in values):
            columns[name] = pa.array(values, getattr(pa, kind)())
    for proxy in proxies:
        columns[proxy_column(proxy)] = pa.array(
            [c.scores.get(proxy) for c in candidates], pa.float64()
        )
    text = json.dumps({"format": 1, "proxies": list(proxies), **metadata}, allow_nan=False)
    return pa.table(columns).replace_schema_metadata({"zoo_search": text})


def from_table(table: Any) -> list[Candidate]:
    """Read candidates back from the table that :func:`to_table` gives."""
    metadata = json.loads(table.schema.metadata[b"zoo_search"])
    proxies: list[str] = metadata["proxies"]
    return [
        Candidate(
            id=row["id"],
            recipe=Recipe.from_any(json.loads(row["recipe"])),
            kind=row["kind"],
            params=row["params"],
            macs=row["macs"],
            scores=_present({p: row[proxy_column(p)] for p in proxies}),
            state=row["state"],
            reason=row["reason"],
            seconds=row["seconds"],
            init=tuple(json.loads(row["init"])),
            **{attribute: row.get(name) for name, attribute, _ in _MEASURED},
        )
        for row in table.to_pylist()
    ]


def proxy_column(proxy: str) -> str:
    """Return the column of a proxy: its name, or ``score_NAME`` where a cost has that name."""
    return f"score_{proxy}" if proxy in ("params", "macs") else proxy


def _present(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: v for name, v in scores.items() if v is not None and math.isfinite(v)}
