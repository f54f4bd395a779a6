"""Candidates, and the one way in which they are written down.

:func:`encode` gives plain values under the names that every file uses. The study keeps them as
attributes of a trial, ``candidates.parquet`` as columns (``docs/design.md``, "Files of a run"),
where a recipe and the reports of hooks are JSON texts and each score is a column of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pyarrow as pa

from zoo_search.core.errors import UserError
from zoo_search.core.json_text import read_json
from zoo_search.networks.recipe import Recipe

_COLUMNS = {
    "id": "int32", "kind": "string", "recipe": "string", "params": "int64", "macs": "int64",
    "state": "string", "reason": "string", "seconds": "float64", "init": "string",
}  # fmt: skip
_MEASURED = {"latency_ms": "float64", "memory": "int64"}
_TEXTS = ("recipe", "init")

Kind = Literal["reassembly", "zoo", "part"]
State = Literal["complete", "failed"]

Report = Mapping[str, Any]
"""The report of an init hook (:class:`zoo_search.hooks.HookReport`), as plain values."""


@dataclass(frozen=True)
class Outcome:
    """What came of scoring one recipe."""

    # By proxy; those that failed are missing.
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""  # why any failed, else empty
    seconds: float = 0.0  # to assemble and score
    init: Sequence[Report] = ()  # reports of the init hooks


@dataclass(frozen=True)
class Candidate:
    """A recipe with its cost and its scores.

    Attributes:
        id: Number in the run, in the order in which candidates were proposed.
        recipe: What it is.
        kind: ``"zoo"`` for a zoo model with a new head, ``"part"`` for the first blocks of one,
            else ``"reassembly"``.
        params: Parameters.
        macs: Multiply-adds for one image.
        scores: Score by proxy; a proxy that failed is missing.
        state: ``"failed"`` if any proxy failed.
        reason: Why it failed, else empty.
        seconds: Time to assemble and score.
        latency: Milliseconds for a batch, where it was asked for.
        memory: Peak activation memory for one image in fp32, in bytes, where it was asked for.
        init: Reports of the init hooks.
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
    init: Sequence[Report] = ()


def encode(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as plain values; costs that were not measured are left away."""
    data = {
        **vars(candidate),
        "recipe": candidate.recipe.to_dict(),
        "scores": dict(candidate.scores),
        "init": list(candidate.init),
        "latency_ms": candidate.latency,
    }
    del data["latency"]
    return {name: x for name, x in data.items() if x is not None or name not in _MEASURED}


def decode(data: Mapping[str, Any]) -> Candidate:
    """Read what :func:`encode` gave; what a candidate does not hold is passed over.

    Raises:
        UserError: If its recipe is none.
    """
    values = {
        **data,
        "recipe": recipe_in(data["recipe"]),
        "init": tuple(data["init"]),
        "latency": data.get("latency_ms"),
    }
    names = {field.name for field in fields(Candidate)}
    return Candidate(**{name: value for name, value in values.items() if name in names})


def recipe_in(data: object) -> Recipe:
    """Read a recipe that stands in a file; a text there names no other file.

    Raises:
        UserError: If it is no recipe.
    """
    if not isinstance(data, Mapping):
        raise UserError(
            f"The recipe of a candidate is {data!r}, which is no mapping with the key 'blocks'. "
            "The run directory is damaged: remove its candidates.parquet and its study, and run "
            "the step again."
        )
    return Recipe.from_any(data)


def best_first(candidates: Sequence[Candidate], proxy: str) -> list[Candidate]:
    """Return the complete candidates by one score, best first; equal scores by id."""
    complete = [c for c in candidates if c.state == "complete" and proxy in c.scores]
    return sorted(complete, key=lambda c: (-c.scores[proxy], c.id))


def to_table(
    candidates: Sequence[Candidate], proxies: Sequence[str], metadata: Mapping[str, object]
) -> pa.Table:
    """Return the candidates as a table: one row each, one column a proxy.

    ``latency_ms`` and ``memory`` are columns only where any candidate has them.
    """
    rows = []
    for candidate in candidates:
        data = encode(candidate)
        scores = {proxy_column(proxy): candidate.scores.get(proxy) for proxy in proxies}
        texts = {name: json.dumps(data[name]) for name in _TEXTS}
        rows.append({**data, **texts, **scores})
    types = dict(_COLUMNS)
    types |= {n: kind for n, kind in _MEASURED.items() if any(n in row for row in rows)}
    types |= {proxy_column(proxy): "float64" for proxy in proxies}
    columns = {
        name: pa.array([row.get(name) for row in rows], getattr(pa, kind)())
        for name, kind in types.items()
    }
    text = json.dumps({"format": 1, "proxies": list(proxies), **metadata}, allow_nan=False)
    return pa.table(columns).replace_schema_metadata({"zoo_search": text})


def from_table(table: pa.Table) -> list[Candidate]:
    """Read candidates back from the table that :func:`to_table` gives.

    Raises:
        UserError: If it is another table.
    """
    try:
        told = read_json(table.schema.metadata[b"zoo_search"])["proxies"]
        proxies = [str(proxy) for proxy in told]
        # Of known types, before any value becomes one of Python's.
        types = _COLUMNS | {n: kind for n, kind in _MEASURED.items() if n in table.column_names}
        types |= {proxy_column(proxy): "float64" for proxy in proxies}
        schema = pa.schema({name: getattr(pa, kind)() for name, kind in types.items()})
        rows = table.select(list(types)).cast(schema).to_pylist()
        texts = [{name: read_json(row[name]) for name in _TEXTS} for row in rows]
    except (TypeError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(
            "The table of candidates is not one that zoo-search wrote, or it is damaged "
            f"({error}). Remove it, and run 'zoo-search reassemble' again."
        ) from None
    candidates = []
    for row, told_in in zip(rows, texts, strict=True):
        scores = {proxy: row[proxy_column(proxy)] for proxy in proxies}
        kept = {name: x for name, x in scores.items() if x is not None and math.isfinite(x)}
        candidates.append(decode({**row, **told_in, "scores": kept}))
    return candidates


def proxy_column(proxy: str) -> str:
    """Return the column of a proxy: its name, or ``score_NAME`` where a cost has that name."""
    return f"score_{proxy}" if proxy in ("params", "macs") else proxy
