"""The pictures of the report, as SVG bytes, from plain values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from zoo_search.drawing import FAINT, INK, PALETTE, new_figure, render

__all__ = ["candidate_picture", "curve_picture"]


def candidate_picture(
    candidates: Sequence[Mapping[str, Any]], proxy: str, chosen: Mapping[str, str]
) -> bytes:
    """Draw score against cost.

    Args:
        candidates: Rows with ``kind``, ``key``, ``macs`` and ``score``.
        proxy: Name of the score.
        chosen: Key of a recipe to the name of the network that was fine-tuned.
    """
    figure, axes = new_figure(7.2, 3.8)
    for kind, marker, colour in (("reassembly", "o", "#8fa9cc"), ("zoo", "D", "#e08a2e")):
        rows = [row for row in candidates if row["kind"] == kind]
        axes.scatter(
            [row["macs"] / 1e6 for row in rows],
            [row["score"] for row in rows],
            s=26 if kind == "reassembly" else 44,
            marker=marker,
            color=colour,
            edgecolor="white",
            linewidth=0.6,
            label={"reassembly": "reassembly", "zoo": "zoo model"}[kind],
            zorder=3,
        )
    ringed = [row for row in candidates if row["key"] in chosen]
    low, high = axes.get_xlim()
    for row, offset in zip(ringed, itertools.cycle((7, -10, 16, -19)), strict=False):
        point = (row["macs"] / 1e6, row["score"])
        axes.scatter(*point, s=90, facecolor="none", edgecolor=INK, linewidth=1.2, zorder=4)
        right = point[0] > (low + high) / 2
        axes.annotate(
            chosen[row["key"]],
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


def curve_picture(results: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the training loss over the epochs of all protocols, one line a network."""
    from matplotlib.ticker import LogFormatter

    figure, axes = new_figure(7.2, 3.8)
    styles = {"reassembly": "-", "single": "--", "random": ":", "plain": "-.", "variant": "-"}
    borders: set[int] = set()
    for index, result in enumerate(results):
        losses: list[float] = []
        for record in result["protocols"].values():
            losses += [point["train_loss"] for point in record["curve"]]
            borders.add(len(losses))
        axes.plot(
            range(1, len(losses) + 1),
            losses,
            styles[result["role"]],
            color=PALETTE[index % len(PALETTE)],
            linewidth=1.7,
            label=result["name"],
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    for border in sorted(borders)[:-1]:
        axes.axvline(border + 0.5, color=FAINT, linewidth=1)
    top = axes.get_ylim()[1]
    left = 0
    names = max((list(result["protocols"]) for result in results), key=len, default=[])
    for border, name in zip(sorted(borders), names, strict=False):
        axes.text((left + border + 1) / 2, top, f"{name.upper()}-TUNING", ha="center", va="bottom")
        left = border
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8)
    return render(figure)
