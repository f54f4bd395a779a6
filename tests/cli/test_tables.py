"""Tables on the terminal, and the same rows as JSON."""

from __future__ import annotations

import json

import pytest

from zoo_search.cli.tables import show
from zoo_search.core.tables import Table, number, text

TABLE = Table(
    "Some models",
    (text("name"), number("params", "parameters"), number("gap"), text("grid"), text("why", "")),
    [
        {"name": "a", "params": 1234, "gap": 0.123456, "grid": (7, 14), "hidden": "h"},
        {"name": "bcd", "params": 9, "gap": None, "grid": None, "why": "it [fails]"},
    ],
)


def test_numbers_stand_on_the_right_and_what_is_missing_is_a_dash(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Some models"
    cells = [[cell.strip("\n") for cell in line.strip("│┃").split("│")] for line in lines[4:6]]
    assert [[cell.strip() for cell in row] for row in cells] == [
        ["a", "1234", "0.1235", "7×14", "–"],
        ["bcd", "9", "–", "–", "it [fails]"],
    ]
    assert cells[1][1] == "          9 "  # under the last letter of "parameters"
    assert cells[0][0] == " a    "


def test_json_holds_every_field_of_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    show(TABLE, as_json=True)
    expected = [{**TABLE.rows[0], "grid": [7, 14]}, TABLE.rows[1]]
    assert json.loads(capsys.readouterr().out) == expected
