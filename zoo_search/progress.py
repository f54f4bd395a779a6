"""Progress of anything that takes more than a few seconds: what is being done, how much is left.

A moving bar on a terminal; elsewhere (a log, CI) a line at the start, now and then, and at the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

__all__ = ["Bar", "console", "progress"]

console = Console(stderr=True, highlight=False)
_SECONDS_BETWEEN_LINES = 10.0


class Bar(Protocol):
    """What a step reports to."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Say that ``n`` more are done; ``note`` says what about."""

    def total(self, n: int) -> None:
        """Correct the number of things to do."""


class _Terminal:
    def __init__(self, bars: Progress, task: int) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=n, note=note)  # type: ignore[arg-type]

    def total(self, n: int) -> None:
        self._bars.update(self._task, total=n)  # type: ignore[arg-type]


class _Lines:
    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._said = self._start = time.monotonic()
        self._first: tuple[int, float] | None = None

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        now = time.monotonic()
        self._first = self._first or (self._done, now)
        if now - self._said >= _SECONDS_BETWEEN_LINES or self._done == self._total:
            self._said = now
            line = f"  {self._title}: {self._done}/{self._total}, {now - self._start:.0f} s"
            print(f"{line}{self._left(now)}  {note}".rstrip(), file=sys.stderr, flush=True)

    def _left(self, now: float) -> str:
        """Say how long the rest takes; the first one had to wait for the workers to start."""
        assert self._first is not None
        done, since = self._first
        rest = self._total - self._done
        if rest <= 0 or self._done == done:
            return ""
        return f", about {(now - since) / (self._done - done) * rest:.0f} s left"

    def total(self, n: int) -> None:
        self._total = n


@contextmanager
def progress(title: str, total: int) -> Iterator[Bar]:
    """Show the progress of ``total`` things under ``title`` while the block runs."""
    if not console.is_terminal:
        yield _Lines(title, total)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Remaining(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=False) as bars:
        yield _Terminal(bars, bars.add_task(title, total=total, note=""))
