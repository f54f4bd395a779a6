"""The lines of progress where there is no terminal."""

from __future__ import annotations

import pytest

from zoo_search import progress


def test_the_start_of_the_workers_is_not_taken_for_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first takes a minute, the others two seconds each."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines = progress._Lines("scoring", 12)
    for seconds in (60.0, *([2.0] * 11)):
        clock[0] += seconds
        lines.advance(note="one")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "  scoring: 1/12, 60 s  one",
        "  scoring: 6/12, 70 s, about 12 s left  one",
        "  scoring: 11/12, 80 s, about 2 s left  one",
        "  scoring: 12/12, 82 s  one",
    ]
