"""The command line as a user starts it, with what an attack would leave behind."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from attacks import Command, Ended


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """``zoo-search WORDS`` in this process, through the function that the script calls."""
    from zoo_search.cli.app import main

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["zoo-search", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
        told = capsys.readouterr()
        return Ended(code, told.err, told.out)

    path, shown = list(sys.path), warnings.showwarning
    yield call
    sys.path[:], warnings.showwarning = path, shown


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there once an attack has run its code."""
    return tmp_path / "pwned"
