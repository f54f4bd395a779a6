"""The pictures of the report, as SVG bytes, from plain values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from zoo_search.plots.style import FAINT, INK, PALETTE, new_figure, new_panels, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zoo_search.finetune.entries import Result
    from zoo_search.reassembly.candidates import Candidate
    from zoo_search.training.snapshot import Epoch


def candidate_picture(
    candidates: Sequence[Candidate], proxy: str, chosen: Mapping[str, str]
) -> bytes:
    """Draw the score by a proxy against cost, for candidates that have it.

    ``chosen`` gives the name of the network that was fine-tuned by the key of its recipe.
    """
    figure, axes = new_figure(7.2, 3.8)
    looks = (
        ("reassembly", "reassembly", 26, "o", "#8fa9cc"),
        ("zoo", "zoo model", 44, "D", PALETTE[1]),
        ("part", "start of a zoo model", 34, "d", PALETTE[2]),
    )
    for kind, label, size, marker, colour in looks:
        rows = [row for row in candidates if row.kind == kind]
        if kind == "part" and not rows:
            continue
        axes.scatter(
            [row.macs / 1e6 for row in rows],
            [row.scores[proxy] for row in rows],
            s=size,
            marker=marker,
            color=colour,
            edgecolor="white",
            linewidth=0.6,
            label=label,
            zorder=3,
        )
    ringed = [row for row in candidates if row.recipe.key in chosen]
    low, high = axes.get_xlim()
    for row, offset in zip(ringed, itertools.cycle((7, -10, 16, -19)), strict=False):
        point = (row.macs / 1e6, row.scores[proxy])
        axes.scatter(*point, s=90, facecolor="none", edgecolor=INK, linewidth=1.2, zorder=4)
        right = point[0] > (low + high) / 2
        axes.annotate(
            chosen[row.recipe.key],
            point,
            xytext=(-8 if right else 8, offset),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5, "shrinkB": 4},
            zorder=5,
        )
    axes.set_xlabel("cost in millions of multiply-adds (MACs)")
    axes.set_ylabel(f"{proxy} (higher is better)")
    axes.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    axes.legend(frameon=False, loc="best", title="ringed: fine-tuned")
    return render(figure)


_LINES = {"reassembly": "-", "single": "--", "random": ":", "plain": "-.", "variant": "-"}


def curve_picture(results: Sequence[Result]) -> bytes:
    """Draw the training loss over the epochs of all protocols, one line a network.

    Where images were held out, the accuracy on them stands below, beside that on the training
    images.
    """
    from matplotlib.ticker import LogFormatter

    curves = [
        [point for record in result.protocols.values() for point in record.curve]
        for result in results
    ]
    held_out = any(point.validation_accuracy is not None for curve in curves for point in curve)
    figure, panels = new_panels(7.2, 6.4 if held_out else 3.8, 2 if held_out else 1)
    axes = panels[0]
    for index, (result, curve) in enumerate(zip(results, curves, strict=True)):
        axes.plot(
            [*range(1, len(curve) + 1)],
            [point.train_loss for point in curve],
            _LINES[result.role],
            color=PALETTE[index % len(PALETTE)],
            linewidth=1.7,
            label=result.name,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    borders = sorted({border for result in results for border in _borders(result)})
    for panel in panels:
        for border in borders[:-1]:
            panel.axvline(border + 0.5, color=FAINT, linewidth=1)
        panel.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    top = axes.get_ylim()[1]
    left = 0
    names = max((list(result.protocols) for result in results), key=len, default=[])
    for border, name in zip(borders, names, strict=False):
        axes.text((left + border + 1) / 2, top, f"{name.upper()}-TUNING", ha="center", va="bottom")
        left = border
    axes.set_ylabel("training loss")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8)
    if held_out:
        _draw_accuracies(panels[1], results, curves)
    panels[-1].set_xlabel("epoch")
    return render(figure)


def _borders(result: Result) -> Iterator[int]:
    """Yield the epochs, counted over all protocols, that protocols end with."""
    return itertools.accumulate(len(record.curve) for record in result.protocols.values())


def _draw_accuracies(
    axes: Axes, results: Sequence[Result], curves: Sequence[Sequence[Epoch]]
) -> None:
    """Draw, of networks with validation images, the accuracy on these and on training images."""
    from matplotlib.lines import Line2D

    for index, (result, curve) in enumerate(zip(results, curves, strict=True)):
        rows = [
            (place, 100 * point.validation_accuracy, 100 * point.train_accuracy)
            for place, point in enumerate(curve, start=1)
            if point.validation_accuracy is not None
        ]
        places, held_out, training = zip(*rows, strict=True) if rows else ((), (), ())
        line, colour = _LINES[result.role], PALETTE[index % len(PALETTE)]
        axes.plot(places, held_out, line, color=colour, linewidth=1.9, label=result.name)
        axes.plot(places, training, line, color=colour, linewidth=0.9, alpha=0.45)
    axes.set_ylabel("accuracy (%)")
    legend = [
        Line2D([], [], color=INK, linewidth=1.9, label="held-out images (validation)"),
        Line2D([], [], color=INK, linewidth=0.9, alpha=0.45, label="training images, augmented"),
    ]
    axes.legend(
        handles=legend, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8
    )
