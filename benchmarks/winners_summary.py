"""The tables of the proof benchmark, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo_search.report.comparison import Estimate, difference

Row = dict[str, Any]
BASE, OURS = "single", "reassembly"
CONTENDERS = {
    "reassembly": "best reassembly",
    "single": "best single model",
    "random": "random recipe",
    "logme": "model by LogME",
    "leep": "model by LEEP",
    "dpiat": "plain, DPIAT",
    "scratch": "plain, from scratch",
    "random weights": "reassembled architecture, random weights",
    "ensemble": "two models, ensemble",
}


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of all tables."""
    if not rows:
        yield "Nothing is measured yet."
        return
    rows = list({(row["target"], row["budget"]): row for row in rows}.values())  # the latest ones
    yield from _accuracies(rows)
    yield ""
    yield from _differences(rows)
    yield ""
    yield from _networks(rows)


def _accuracies(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "Test accuracy in %, mean over the trainings; in brackets how far it is above the best "
        "single model, and the interval that holds this with 95 % confidence."
    )
    yield ""
    yield _line(["setting", *CONTENDERS.values()])
    yield _line(["---", *["---:"] * len(CONTENDERS)])
    for row in rows:
        yield _line([_name(row), *(_cell(row, name) for name in CONTENDERS)])


def _differences(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "The best reassembly against each of the others: in how many settings it is ahead, level "
        "or behind with 95 % confidence, and by how many points: on average, and from the worst to "
        "the best setting."
    )
    yield ""
    yield _line(["against", "ahead", "level", "behind", "points", "ahead in", "behind in"])
    yield _line(["---", *["---:"] * 4, "---", "---"])
    for name, title in CONTENDERS.items():
        gaps = {_name(row): gap for row in rows if (gap := gap_of(row, OURS, name)) is not None}
        if name == OURS or not gaps:
            continue
        count = Counter(gap.outcome for gap in gaps.values())
        named = [
            ", ".join(where for where, gap in gaps.items() if gap.outcome == outcome)
            for outcome in ("ahead", "behind")
        ]
        points = [100 * gap.mean for gap in gaps.values()]
        told = f"{np.mean(points):+.1f} ({min(points):+.1f} to {max(points):+.1f})"
        numbers = [str(count[outcome]) for outcome in ("ahead", "level", "behind")]
        yield _line([title, *numbers, told, *named])


def _networks(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "What the contenders are and cost (parameters and multiply-adds in millions), and how many "
        "minutes a setting takes: by the clock, of CPUs, and by the clock for the run alone."
    )
    yield ""
    shown = ("reassembly", "single", "logme", "leep", "ensemble")
    yield _line(["setting", *(CONTENDERS[name] for name in shown), "clock", "CPUs", "run"])
    yield _line(["---", *["---"] * len(shown), "---:", "---:", "---:"])
    for row in rows:
        cells = [_cost(row["contenders"].get(name)) for name in shown]
        spent = [row["seconds"]["wall"], row["seconds"]["cpu"], row["run_seconds"]["wall"]]
        yield _line([_name(row), *cells, *(f"{seconds / 60:.1f}" for seconds in spent)])


def _cost(contender: Row | None) -> str:
    if contender is None:
        return ""
    what = contender["recipe"] if contender["name"].startswith("reassembly") else contender["name"]
    return f"{what} ({contender['params'] / 1e6:.1f}, {contender['macs'] / 1e6:.1f})"


def _name(row: Row) -> str:
    return f"{row['target']} {row['budget']}"


def _cell(row: Row, name: str) -> str:
    contender = row["contenders"].get(name)
    if contender is None:
        return ""
    told = f"{100 * right_of(contender).mean():.1f}"
    gap = gap_of(row, name, BASE)
    if name == BASE or gap is None:
        return told
    bold = "**" if gap.outcome != "level" else ""
    points = [f"{100 * value:+.1f}" for value in (gap.mean, gap.low, gap.high)]
    return f"{told} ({bold}{points[0]}{bold}; {points[1]} to {points[2]})"


def gap_of(row: Row, ours: str, theirs: str) -> Estimate | None:
    """Return by how much one contender's accuracy is above another's; None if one is missing."""
    found = [row["contenders"].get(name) for name in (ours, theirs)]
    if None in found:
        return None
    first, second = map(right_of, found)
    both = min(len(first), len(second))  # the first seeds of both are the same
    return difference(first[:both], second[:both])


def right_of(contender: Row) -> npt.NDArray[np.bool_]:
    """Return which test images each training got right, ``[trainings, images]``."""
    return np.asarray([[bit == "1" for bit in row] for row in contender["right"]])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
