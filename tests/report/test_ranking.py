"""The candidates of a run in the order of their scores."""

from __future__ import annotations

import json

from zoo_search.core.store import RunStore
from zoo_search.networks import Recipe
from zoo_search.report import ranking


def test_the_best_come_first_and_the_failed_last(store: RunStore) -> None:
    ranked = ranking(store)
    assert ranked.proxy == "naswot"
    assert [candidate.id for candidate in ranked.candidates] == [1, 0, 2]
    assert [candidate.id for candidate in ranked.scored] == [1, 0, 2]  # it has this score, too
    assert [candidate.reason for candidate in ranked.failed] == ["no params"]
    assert [column.heading for column in ranked.measured.values()] == ["memory (bytes)"]


def test_rows_are_for_json_and_hold_every_score(store: RunStore) -> None:
    rows = ranking(store).rows()
    assert json.loads(json.dumps(rows)) == rows
    first = rows[0]
    assert Recipe.from_any({"blocks": first["blocks"]}).key == first["key"]
    assert (first["rank"], first["recipe"]) == (1, "a[0,2) + b[3,5)")
    assert (first["score"], first["naswot"], first["score_params"]) == (2.5, 2.5, 7.0)
    assert (first["params"], first["macs"], first["memory"]) == (7, 6, 44)
    assert "latency_ms" not in first
    assert (rows[2]["state"], rows[2]["reason"]) == ("failed", "no params")
