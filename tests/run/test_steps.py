"""Steps tell that they are under way, also where what they call tells nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from listener import Listener
from rich.console import Console

from zoo_search.core import progress
from zoo_search.run import pipeline
from zoo_search.run.run import Run
from zoo_search.run.steps import STEPS, Step

JOB = {"name": "x", "dataset": "digits", "zoo": {"a": {"arch": "resnet10t", "weights": None}}}


def test_a_step_is_not_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard = Listener(4)
    monkeypatch.setattr("sys.stderr", heard)
    monkeypatch.setattr(progress, "console", Console(file=heard))
    monkeypatch.setattr(progress, "_lines", progress._Lines(every=0.01))

    def until_two_lines_more(run: Run) -> list[str]:
        before = heard.missing
        while heard.missing > before - 2:
            heard.full.wait(0.001)
        return []

    monkeypatch.setattr(Run, "prepare", until_two_lines_more)
    monkeypatch.setitem(STEPS, "zoo", Step(1, lambda run: 0, until_two_lines_more))
    said: list[str] = []
    pipeline.run(JOB, until="zoo", directory=str(tmp_path / "run"), say=said.append)
    lines = heard.getvalue().splitlines()
    assert lines[0].startswith("  zoo: loading: ")
    assert lines[-1].startswith("  zoo: 0 s")
    assert [line.partition(":")[0] for line in said] == ["zoo …", "zoo"]
