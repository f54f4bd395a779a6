"""Progress on the real classes, with a clock of the test's own."""

from __future__ import annotations

import io
import threading

import pytest
from listener import Listener
from rich.console import Console

from zoo_search.core import progress
from zoo_search.core.progress import Bar


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def shown(bar: Bar, clock: Clock) -> progress._Lines:
    """Let a bar print as it does in a log, without the thread."""
    lines = progress._Lines(clock=clock)
    bar.changed = lambda: lines.look(bar)
    return lines


def test_the_start_of_the_workers_is_not_taken_for_work(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first takes a minute, the others two seconds each."""
    bar = Bar("scoring", 12, clock=clock)
    shown(bar, clock)
    for seconds in (60.0, *([2.0] * 11)):
        clock.now += seconds
        bar.advance(note="one")
    assert capsys.readouterr().err.splitlines() == [
        "  scoring: 1/12, 60 s  one",
        "  scoring: 4/12, 66 s, about 16 s left  one",
        "  scoring: 7/12, 72 s, about 10 s left  one",
        "  scoring: 10/12, 78 s, about 4 s left  one",
        "  scoring: 12/12, 82 s  one",
    ]


def test_time_left_is_that_of_the_work_and_not_of_the_things(clock: Clock) -> None:
    """Three small models and one that is seven times as much work, at one unit a second."""
    bar = Bar("train", 4, work=100.0, clock=clock)
    for second in range(1, 31):
        clock.now += 1
        bar.under_way("large", second)
        bar.under_way("small", second % 10 or 10)
        if second % 10 == 0:
            bar.advance(1, "small done", work=10, name="small")
    assert bar.share == pytest.approx(0.6)
    # Two units a second, and 40 are left.
    assert bar.text() == "3/4, 60 %, 30 s, about 20 s left  small done; under way: large"


def test_a_glimpse_tells_no_pace(clock: Clock) -> None:
    bar = Bar("train", 3, work=100.0, clock=clock)
    bar.under_way("a", 0.01)
    clock.now += 1
    bar.under_way("a", 0.1)
    assert bar.text() == "0/3, 0 %, 1 s  under way: a"
    clock.now += 1
    bar.under_way("a", 2.01)
    assert bar.text() == "0/3, 2 %, 2 s, about 98 s left  under way: a"


def test_the_pace_is_that_of_lately(clock: Clock) -> None:
    bar = Bar("score", 200, clock=clock)
    for seconds in [1.0] * 40 + [4.0] * 30:
        clock.now += seconds
        bar.advance()
    left = float(bar.text().split("about ")[1].split()[0])
    assert 470 <= left <= 520, "130 at four seconds each"


def test_a_pause_counts_as_part_of_the_next_thing(clock: Clock) -> None:
    bar = Bar("tune", 4, clock=clock)
    for _ in range(2):
        clock.now += 20
        bar.advance()
    said = []
    for _ in range(8):
        clock.now += 5
        said.append(bar.text().split("  ")[0].split(", ")[2])
    assert said[:7] == [f"about {left} s left" for left in (35, 30, 25, 20, 15, 10, 5)]
    # Longer than all the rest should have taken: what is known is that it is slower.
    assert said[7] == "about 120 s left"


def test_without_news_a_line_says_how_old_the_last_is(clock: Clock) -> None:
    bar = Bar("tune", 4, clock=clock)
    bar.note("starting workers")
    clock.now += 7
    assert bar.text() == "0/4, 7 s  starting workers"
    bar.advance(note="a")
    clock.now += 6
    assert bar.text() == "1/4, 13 s  a (6 s ago)"


def test_what_is_under_way_is_not_counted_twice(clock: Clock) -> None:
    bar = Bar("train", 2, work=10.0, clock=clock)
    bar.under_way("a", 5.9)
    assert bar.share == pytest.approx(0.59)
    bar.advance(1, work=6.0, name="a")
    assert bar.share == pytest.approx(0.6)
    bar.advance(1, work=4.0, name="b")
    assert (bar.share, bar.complete) == (1.0, True)


def test_lines_come_though_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Listener(6)
    monkeypatch.setattr("sys.stderr", heard)
    monkeypatch.setattr(progress, "console", Console(file=heard))
    monkeypatch.setattr(progress, "_lines", progress._Lines(every=0.01))
    with progress.working("finetune") as step:
        step.note("assembling networks")
        while heard.missing > 3:
            assert not heard.full.wait(0.001)
        with progress.progress("fine-tuning", 3) as bar:
            bar.under_way("lite0", 0.3)
            assert heard.full.wait(20)
    lines = heard.getvalue().splitlines()
    assert lines[0] == "  finetune: 0 s  assembling networks"
    assert lines[-1].startswith("  fine-tuning: 0/3, 10 %, 0 s")
    assert lines[-1].endswith("under way: lite0")
    threads = {thread.name for thread in threading.enumerate()}
    assert not progress._lines._running
    assert progress._lines._stop.is_set(), threads


def test_a_bar_inside_another_puts_no_line_off(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, outer = progress._Lines(clock=clock), Bar("zoo", 0)
    lines.start(outer)
    clock.now += 4
    inner = Bar("train", 3, clock=clock)
    lines.start(inner)
    clock.now += 1
    inner.advance(note="a")
    lines.end(inner)
    lines.end(outer)
    assert capsys.readouterr().err == "  train: 1/3, 1 s  a\n"


def test_on_a_terminal_one_bar_moves_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(progress, "console", console)
    with progress.working("finetune") as step:
        step.note("assembling")
        with progress.progress("fine-tuning", 2, work=8.0) as bar:
            bar.under_way("a", 2.0)
            bar.advance(2, note="both", work=8.0, name="a")
        step.note("exporting")
    assert "fine-tuning" in screen.getvalue()
    assert "2/2" in screen.getvalue()
    assert "both" in screen.getvalue()
