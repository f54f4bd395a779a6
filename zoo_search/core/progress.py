"""Progress of anything that takes more than a few seconds: what is being done, how much is left.

A moving bar on a terminal; elsewhere (a log, CI) lines, the last never more than five seconds old:
where nothing is reported for so long, a thread says what is under way.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from zoo_search.core.redaction import shown


class _Plain(Console):
    """Prints names as they are, whatever brackets they hold, and texts as :func:`shown`."""

    def print(self, *objects: object, **named: Any) -> None:
        """Print as rich does."""
        safe = (shown(each) if isinstance(each, str) else each for each in objects)
        super().print(*safe, **named)


console = _Plain(stderr=True, highlight=False, markup=False, emoji=False)
_SECONDS_BETWEEN_LINES = 5.0
_RECENT = 30.0


class Bar:
    """What a step reports to; may be read by another thread at any time.

    Things are counted (``3/7``), work is measured: where things differ in cost, the time left and
    the share done follow from the work of all, in units of the caller's choice; by default one for
    each thing.
    """

    def __init__(
        self,
        title: str,
        total: int,
        work: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title = shown(title)
        self._things, self._count, self._note = total, 0, ""
        self._work, self._finished = total if work is None else work, 0.0
        self._under_way: dict[str, float] = {}
        self._clock, self._start, self._news = clock, clock(), clock()
        self._seen: deque[tuple[float, float]] = deque()
        self._lock = threading.Lock()
        self.changed: Callable[[], None] = lambda: None
        """Called after each report."""

    def advance(
        self, n: int = 1, note: str = "", work: float | None = None, name: str = ""
    ) -> None:
        """Say that ``n`` more things are done, of so much ``work`` (default: ``n``).

        ``note`` says what about, and ``name`` is what :meth:`under_way` called it.
        """
        with self._lock:
            self._count += n
            self._note = note
            self._finished += n if work is None else work
            self._under_way.pop(name, None)
            self._heard()
        self.changed()

    def resize(self, total: int, work: float) -> None:
        """Learn that there is more to do, or less, than was known; both as at the start."""
        self._things, self._work = total, work

    def under_way(self, name: str, work: float) -> None:
        """Say how much of the work of a thing is done that is not finished yet."""
        with self._lock:
            if self._under_way.get(name) == work:
                return
            self._under_way[name] = work
            self._heard()
        self.changed()

    def note(self, note: str) -> None:
        """Say what is being done, where nothing can be counted yet."""
        with self._lock:
            self._note = note
            self._news = self._clock()
        self.changed()

    @property
    def counts(self) -> bool:
        """Whether there are things to count."""
        return self._things > 0

    @property
    def complete(self) -> bool:
        """Whether all things that were to be counted are done."""
        return 0 < self._things <= self._count

    @property
    def share(self) -> float:
        """How much of the work is done, in [0, 1]."""
        return min(1.0, self._done() / (self._work or 1))

    def text(self) -> str:
        """Return where it stands: things, seconds, seconds left, and what is under way."""
        with self._lock:
            now = self._clock()
            words = [f"{self._count}/{self._things}"] if self.counts else []
            if self._under_way and not self.complete:
                words.append(f"{100 * self.share:.0f} %")
            words.append(f"{now - self._start:.0f} s")
            left = self._left(now)
            if left is not None and not self.complete:
                words.append(f"about {left:.0f} s left")
            return shown(f"{', '.join(words)}  {self._what(now)}".rstrip())

    def _what(self, now: float) -> str:
        if not self._under_way:
            quiet = now - self._news
            waits = self._note and not self.complete and quiet >= _SECONDS_BETWEEN_LINES
            return f"{self._note} ({quiet:.0f} s ago)" if waits and self._count else self._note
        doing = f"under way: {', '.join(self._under_way)}"
        return f"{self._note}; {doing}" if self._note else doing

    def _done(self) -> float:
        return self._finished + sum(self._under_way.values())

    def _heard(self) -> None:
        """Keep what was done when; what is older than both limits is forgotten, but for one."""
        now = self._news = self._clock()
        self._seen.append((now, self._done()))
        oldest = now - max(_RECENT, (now - self._seen[0][0]) / 4)
        while len(self._seen) > 2 and self._seen[1][0] <= oldest:
            self._seen.popleft()

    def _left(self, now: float) -> float | None:
        """Return the seconds that the rest takes at the recent pace.

        The pace counts from the first report, which had to wait for the workers to start.
        """
        rest = self._work - self._done()
        if len(self._seen) < 2 or rest <= 0:
            return None
        (since, before), (last, done) = self._seen[0], self._seen[-1]
        # A hundredth of the work, or ten seconds of it, are the least that tells a pace.
        if done <= before or (last - since < 10 and done - before < 0.01 * self._work):
            return None
        # A pause up to now is most likely part of the next thing: it shortens what is left of it.
        left = rest * (last - since) / (done - before) - (now - last)
        return left if left > 0 else rest * (now - since) / (done - before)


class _Lines:
    """Prints where the innermost of what is running stands, at least every few seconds."""

    def __init__(
        self,
        every: float = _SECONDS_BETWEEN_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every, self._clock = every, clock
        self._running: list[Bar] = []
        self._said = clock()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start(self, bar: Bar) -> None:
        """Take a bar in; the first one starts the thread and the time to the first line."""
        bar.changed = lambda: self.look(bar)
        with self._lock:
            self._running.append(bar)
            if len(self._running) == 1:
                self._said = self._clock()
                self._stop = threading.Event()
                threading.Thread(target=self._beat, args=(self._stop,), daemon=True).start()

    def end(self, bar: Bar) -> None:
        """Let a bar go; with the last one the thread ends."""
        with self._lock:
            self._running.remove(bar)
            if not self._running:
                self._stop.set()

    @property
    def running(self) -> list[Bar]:
        """What is running, the innermost last."""
        return list(self._running)

    def look(self, bar: Bar) -> None:
        """Print a line if one is due or the bar has just come to its end."""
        with self._lock:
            now = self._clock()
            if bar.complete or now - self._said >= self._every:
                self._said = now
                print(f"  {bar.title}: {bar.text()}", file=sys.stderr, flush=True)

    def _beat(self, stop: threading.Event) -> None:
        """Print what is due when nothing is reported; runs in a thread of its own."""
        # A line that was printed meanwhile moves the next one back: the wait is for what is left.
        while not stop.wait(max(0.0, self._said + self._every - self._clock())):
            with self._lock:
                bar = self._running[-1] if self._running else None
            if bar is not None:
                self.look(bar)


class _Where(ProgressColumn):
    """The words of the bar that is a field of the task; rich asks ten times a second."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["bar"].text(), style="dim")


class _Terminal:
    """Draws the innermost of what is running; a terminal has room for one moving line."""

    def __init__(self) -> None:
        self._shown: list[tuple[Bar, Progress]] = []

    @property
    def running(self) -> list[Bar]:
        """What is running, the innermost last."""
        return [bar for bar, _ in self._shown]

    def start(self, bar: Bar) -> None:
        """Draw a bar in place of the one around it."""
        if self._shown:
            self._shown[-1][1].stop()
        left = BarColumn(bar_width=30) if bar.counts else SpinnerColumn()
        columns = (TextColumn("  {task.description}", markup=False), left, _Where())
        drawn = Progress(*columns, console=console, transient=not bar.counts)
        task = drawn.add_task(bar.title, total=1.0, bar=bar)
        bar.changed = lambda: drawn.update(task, completed=bar.share)
        drawn.start()
        self._shown.append((bar, drawn))

    def end(self, bar: Bar) -> None:
        """Leave the bar as it is and go on drawing the one around it."""
        self._shown.pop()[1].stop()
        if self._shown:
            self._shown[-1][1].start()


_lines, _terminal = _Lines(), _Terminal()


@contextmanager
def progress(title: str, total: int, work: float | None = None) -> Iterator[Bar]:
    """Show a :class:`Bar` of ``total`` things under ``title`` while the block runs."""
    view = _terminal if console.is_terminal else _lines
    bar = Bar(title, total, work)
    view.start(bar)
    try:
        yield bar
    finally:
        view.end(bar)


def innermost() -> Bar | None:
    """Return what this process is doing just now, as far as it is told; from any thread."""
    running = (_terminal if console.is_terminal else _lines).running
    return running[-1] if running else None


def working(title: str) -> AbstractContextManager[Bar]:
    """Show that something is going on of which nothing can be counted; inside, bars may run."""
    return progress(title, 0)
