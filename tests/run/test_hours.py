"""The wall clock that a run is given: for how long, and until when."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from zoo_search.core.errors import UserError
from zoo_search.run.run import Run

JOB: dict[str, Any] = {"name": "x", "zoo": {"a": {"arch": "resnet10t"}}, "dataset": "digits"}


def opened(place: Path, hours: float | None = None) -> Run:
    return Run.open(JOB, str(place), hours=hours)


def test_without_hours_there_is_no_end(tmp_path: Path) -> None:
    assert opened(tmp_path).hours is None
    assert opened(tmp_path).deadline() is None
    assert list(tmp_path.iterdir()) == []


def test_a_command_overrules_the_run_file_and_a_later_one_keeps_the_hours(tmp_path: Path) -> None:
    before = time.monotonic()
    run = opened(tmp_path, hours=2.0)
    assert run.hours == 2.0
    assert before + 7200 <= (run.deadline() or 0) <= time.monotonic() + 7200
    # A report of this run asks for no other race; more hours do, fewer do not.
    assert opened(tmp_path).hours == 2.0
    assert opened(tmp_path, hours=1.0).hours == 2.0
    assert Run.open({**JOB, "search": {"hours": 3}}, str(tmp_path)).hours == 3.0
    assert opened(tmp_path / "other").hours is None


@pytest.mark.parametrize("hours", [0.0, -1.0, float("inf"), float("nan")])
def test_a_command_is_given_a_time_too(tmp_path: Path, hours: float) -> None:
    with pytest.raises(UserError, match=r"--hours: .* is no time to fill"):
        opened(tmp_path, hours=hours)


@pytest.mark.parametrize("hours", [0, -1, float("inf"), "two"])
def test_hours_are_a_time(tmp_path: Path, hours: object) -> None:
    with pytest.raises(UserError, match=r"search\.hours"):
        Run.open({**JOB, "search": {"hours": hours}}, str(tmp_path))
