"""What fine-tuned networks reach and cost, and what they are made of, as SVG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo_search.plots.style import FAINT, INK, PALETTE, new_figure, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

ROLE_COLOURS = {
    "reassembly": PALETTE[0],
    "single": PALETTE[1],
    "random": PALETTE[5],
    "plain": PALETTE[4],
    "variant": PALETTE[2],
}
_STITCH, _HEAD = 0.012, 0.035  # widths, as shares of the longest network
_BAR = 4.0  # pixels of an interval to both sides
_LETTER = 0.0125  # width of a letter, likewise


@dataclass(frozen=True)
class Point:
    """A network: its role by name and for readers, cost in multiply-adds, accuracies in [0, 1]."""

    name: str
    role: str
    label: str
    macs: int
    accuracy: float
    low: float
    high: float
    best: bool  # of its role


@dataclass(frozen=True)
class Piece:
    """A block of a drawn network."""

    model: str
    start: int
    stop: int
    macs: int


@dataclass(frozen=True)
class Drawn:
    """A network that is drawn as its blocks, with what is told of it."""

    name: str
    told: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Way:
    """How a network did in the race, epoch count by epoch count, accuracies in [0, 1]."""

    name: str
    role: str
    label: str
    epochs: Sequence[int]
    accuracies: Sequence[float]


def race_picture(ways: Sequence[Way], metric: str = "accuracy") -> bytes:
    """Draw a metric on validation images over epochs; lines that end early were left behind."""
    figure, axes = new_figure(7.2, 3.8)
    labelled, end = set[str](), max(way.epochs[-1] for way in ways)
    for way in ways:
        axes.plot(
            way.epochs,
            [100 * accuracy for accuracy in way.accuracies],
            marker="o" if way.epochs[-1] == end else "x",
            markevery=[-1],
            markersize=6,
            linewidth=1.6 if way.epochs[-1] == end else 0.9,
            color=ROLE_COLOURS[way.role],
            label=None if way.role in labelled else way.label,
        )
        labelled.add(way.role)
    axes.set_xlabel("epochs of all protocols")
    axes.set_ylabel(f"validation {metric} (%)")
    axes.set_xticks(sorted({epochs for way in ways for epochs in way.epochs}))
    _explain(axes, "×: left behind\n●: trained to the end")
    return render(figure)


def accuracy_picture(points: Sequence[Point]) -> bytes:
    """Draw test accuracies with their intervals against cost; the best of each role is filled."""
    figure, axes = new_figure(7.2, 3.8)
    labelled = set[str]()
    for point in points:
        colour = ROLE_COLOURS[point.role]
        axes.errorbar(
            [point.macs / 1e6],
            [100 * point.accuracy],
            yerr=[[100 * (point.accuracy - point.low)], [100 * (point.high - point.accuracy)]],
            fmt="o",
            markersize=7,
            markerfacecolor=colour if point.best else "white",
            markeredgecolor=colour,
            ecolor=colour,
            elinewidth=1.4,
            capsize=4,
            label=None if point.role in labelled else point.label,
        )
        labelled.add(point.role)
    axes.margins(x=0.16)
    axes.set_xlabel("cost in millions of multiply-adds (MACs)")
    axes.set_ylabel("test accuracy (%)")
    _explain(axes, "filled: the best of its kind\non validation images")
    figure.draw_without_rendering()  # else nobody knows yet where things stand
    taken = [_bar(axes, point) for point in points]
    middle = (min(point.macs for point in points) + max(point.macs for point in points)) / 2
    for point in points:
        taken.append(_write_name(axes, point, taken, to_the_left=point.macs > middle))
    return render(figure)


def _bar(axes: Axes, point: Point) -> Bbox:
    """Return what a point and its interval take, in pixels."""
    from matplotlib.transforms import Bbox

    ends = [(point.macs / 1e6, 100 * value) for value in (point.low, point.high)]
    (x, low), (_, high) = axes.transData.transform(ends)
    return Bbox([(x - _BAR, low), (x + _BAR, high)])


def _write_name(axes: Axes, point: Point, taken: Sequence[Bbox], *, to_the_left: bool) -> Bbox:
    """Write a name beside its point, where nothing else stands, and return what it takes."""
    for height in (5, -12, 17, -24):
        for left in (to_the_left, not to_the_left):
            name = axes.annotate(
                point.name,
                (point.macs / 1e6, 100 * point.accuracy),
                xytext=(-7 if left else 7, height),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=8,
                fontweight="bold" if point.best else "normal",
            )
            box, inside = name.get_window_extent(), axes.get_window_extent()
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1
            if fits and not any(box.overlaps(other) for other in taken):
                return box
            name.remove()
    axes.add_artist(name)  # it stands over something
    return box


def _explain(axes: Axes, marks: str) -> None:
    """Draw a grid, and the legend of the roles beside it, with what the marks mean."""
    axes.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    axes.legend(
        frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8,
        title=marks, title_fontsize=8,
    )  # fmt: skip


def networks_picture(networks: Sequence[Drawn], colours: Mapping[str, str]) -> bytes:
    """Draw networks as rows of blocks, as long as they cost, coloured by model (as DeRy Figure 8).

    Dark bars between blocks are stitches; blocks that are neighbours in their own model have none.
    """
    figure, axes = new_figure(7.2, 0.62 * len(networks) + 0.75)
    longest = max(sum(piece.macs for piece in network.pieces) for network in networks)
    for row, network in enumerate(networks):
        _draw_network(axes, row, network, colours, longest)
    axes.set_xlim(0, 1 + _HEAD + 6 * _STITCH)
    axes.set_ylim(len(networks) - 0.45, -0.75)
    axes.set_axis_off()
    models = dict.fromkeys(piece.model for network in networks for piece in network.pieces)
    handles = [
        *(axes.scatter([], [], marker="s", s=60, color=colours[m], label=m) for m in models),
        axes.scatter([], [], marker="|", s=110, linewidth=3.5, color=INK, label="stitch"),
        axes.scatter([], [], marker="s", s=60, color=FAINT, label="head"),
    ]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 0.02), ncols=6, frameon=False,
        fontsize=8,
    )  # fmt: skip
    return render(figure)


def _draw_network(
    axes: Axes, row: int, network: Drawn, colours: Mapping[str, str], longest: int
) -> None:
    left = 0.0
    axes.text(0, row - 0.3, network.name, fontweight="bold", fontsize=9, va="bottom")
    axes.text(1, row - 0.3, network.told, fontsize=8, va="bottom", ha="right")
    before: Piece | None = None
    for piece in network.pieces:
        if before is not None and (before.model, before.stop) != (piece.model, piece.start):
            axes.barh(row, _STITCH, left=left + 0.002, height=0.56, color=INK)
            left += _STITCH + 0.004
        width = piece.macs / longest
        axes.barh(
            row, width, left=left, height=0.5, color=colours[piece.model], edgecolor="white", lw=1
        )
        cuts = f"{piece.start}–{piece.stop}"
        name = next((t for t in (f"{piece.model} {cuts}", cuts) if _LETTER * len(t) < width), "")
        axes.text(
            left + width / 2,
            row,
            name,
            color="white",
            fontsize=8,
            ha="center",
            va="center_baseline",
        )
        left, before = left + width, piece
    axes.barh(row, _HEAD, left=left + 0.004, height=0.5, color=FAINT)
