"""The closing table of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import GivenUp, Winners
from zoo_search.finetune.trained import write_predictions
from zoo_search.report import summary


def test_the_table_is_best_first_with_a_column_for_every_protocol(store: RunStore) -> None:
    told = summary(store)
    assert told.table.title == "small: winners and baselines"
    columns = [(column.field, column.right) for column in told.table.columns]
    assert columns == [
        ("name", False), ("role", False), ("blocks", False), ("params_m", True), ("macs_m", True),
        ("trainings", True), ("frozen_percent", True), ("full_percent", True),
    ]  # fmt: skip
    first, second = told.table.rows
    assert first == {
        "name": "reassembly 1", "role": "reassembly", "blocks": "a 0-2 + b 3-5",
        "params": 1_230_000, "macs": 4_560_000, "params_m": "1.23", "macs_m": "4.6",
        "trainings": 1, "frozen_percent": "80.0", "full_percent": "96.0",
    }  # fmt: skip
    assert second["name"] == "b0"
    assert "frozen_percent" not in second


def test_paths_are_those_of_the_winner_and_of_a_report_that_is_there(store: RunStore) -> None:
    assert summary(store).report is None
    store.write_text("report.html", "")
    told = summary(store)
    assert (told.report, told.winner) == (store.path("report.html"), store.path("winners/0"))
    assert "reassembly 1, gets 96.0% right" in told.verdict
    assert told.given_up == ()


def test_networks_that_came_to_no_end_stand_last_with_the_reason(store: RunStore) -> None:
    gone = (GivenUp("a", "single", "The loss is nan."), GivenUp("larger", "variant", "Gone."))
    replace(Winners.read(store), given_up=gone).write(store)
    told = summary(store)
    assert [row["name"] for row in told.table.rows] == ["reassembly 1", "b0", "a", "larger"]
    assert told.given_up == (
        "a came to no end: The loss is nan.",
        "larger came to no end: Gone.",
    )
    assert told.table.rows[2] == {
        "name": "a", "role": "single model", "given_up": "The loss is nan."
    }  # fmt: skip
    assert "the training of a came to no end" in told.verdict


def test_metrics_beside_the_accuracy_where_predictions_are_kept(store: RunStore) -> None:
    """And the validation's own, where it chose by another one."""
    labels = np.array([0] * 9 + [1])
    for folder, said in (("winners/0", [0] * 9 + [1]), ("winners/1", [0] * 10)):
        with store.local_folder(folder) as place:
            write_predictions(place, list("abcdefghij"), labels, {0: np.array(said)})
    first, second = summary(store).table.rows
    assert (first["balanced_accuracy_percent"], first["macro_f1_percent"]) == ("100.0", "100.0")
    assert (second["balanced_accuracy_percent"], second["macro_f1_percent"]) == ("50.0", "47.4")
    headings = [column.heading for column in summary(store).table.columns]
    assert headings[-2:] == ["test balanced accuracy %", "test macro F1 %"]
    replace(Winners.read(store), metric="macro_f1").write(store)
    assert "reaches a macro F1 of 100.0% on 100 test images" in summary(store).verdict
