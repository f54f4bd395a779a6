"""Pictures of a partition: the zoo in its sets, and the objective over the restarts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from zoo_search.plots.style import FAINT, INK, PALETTE, new_figure, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zoo_search.partitions.result import Partition

_MANY_MODELS = 12
_LABELLED_SHARE = 0.08


def partition_picture(partition: Partition, nodes: Mapping[str, int]) -> bytes:
    """Draw one bar a model, its blocks coloured by set and the anchors marked with a star.

    ``nodes`` gives the number of nodes of each model, in the order to draw them.
    """
    figure, axes = new_figure(7.2, _bars_height(len(nodes)))
    _draw_bars(axes, partition, nodes)
    return render(figure)


def restarts_picture(partition: Partition) -> bytes:
    """Draw the objective of every restart, the best so far, and the upper bound if it is near.

    The best few restarts stand with what the swap search reached from them.
    """
    figure, axes = new_figure(7.2, 3.2)
    _draw_restarts(axes, partition)
    return render(figure)


def both_pictures(partition: Partition) -> bytes:
    """Draw both pictures, one above the other, as one PNG."""
    nodes: dict[str, int] = {}
    for block in partition.blocks:
        nodes[block.model] = max(block.stop, nodes.get(block.model, 0))
    heights = [_bars_height(len(nodes)), 3.2]
    figure, axes = new_figure(7.2, sum(heights))
    axes.remove()
    grid = figure.add_gridspec(2, 1, height_ratios=heights)
    _draw_bars(figure.add_subplot(grid[0]), partition, nodes)
    below = figure.add_subplot(grid[1])
    below.spines[["top", "right"]].set_visible(False)
    _draw_restarts(below, partition)
    return render(figure, "png")


def _bars_height(models: int) -> float:
    return (0.55 if models <= _MANY_MODELS else 0.3) * models + 1.0


def _draw_bars(axes: Axes, partition: Partition, nodes: Mapping[str, int]) -> None:
    """Draw the blocks of all models."""
    anchors = {(a.model, a.start, a.stop) for a in partition.anchors}
    rows = {name: row for row, name in enumerate(nodes)}
    many = len(nodes) > _MANY_MODELS
    for block in partition.blocks:
        row, total = rows[block.model], nodes[block.model]
        left, width = block.start / total, (block.stop - block.start) / total
        colour = PALETTE[block.set % len(PALETTE)]
        anchor = (block.model, block.start, block.stop) in anchors
        height, size = (0.74, 7) if many else (0.62, 8)
        axes.barh(row, width, left=left, height=height, color=colour, edgecolor="white", lw=2)
        star = "★" if anchor else ""
        label = f"{block.start}–{block.stop} {star}".strip() if width > _LABELLED_SHARE else star
        axes.text(
            left + width / 2, row, label, ha="center", va="center_baseline", color="white",
            fontsize=size, fontweight="bold" if anchor else "normal",
        )  # fmt: skip
        for cut in range(block.start + 1, block.stop):
            low = row - height / 2
            axes.plot([cut / total] * 2, [low, low + 0.17 * height], color="white", lw=0.8)
    axes.set_yticks(list(rows.values()), list(rows))
    axes.set_ylim(len(nodes) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("depth inside the model (numbers: cuts; ticks: nodes; ★: anchor of its set)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    handles = [
        axes.scatter([], [], marker="s", s=60, color=PALETTE[s % len(PALETTE)], label=f"set {s}")
        for s in range(partition.k)
    ]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=min(partition.k, 8),
        frameon=False, borderaxespad=0.2,
    )  # fmt: skip


def _draw_restarts(axes: Axes, partition: Partition) -> None:
    """Draw dots, a line and the bound; name the restart that first reached the best."""
    reached = np.array([restart.objective for restart in partition.restarts])
    number = np.arange(1, len(reached) + 1)
    best = np.maximum.accumulate(reached)
    first = int(reached.argmax()) + 1
    axes.scatter(number, reached, s=14, color=PALETTE[0], alpha=0.55, lw=0, label="one restart")
    axes.step(number, best, where="post", color=PALETTE[1], lw=1.8, label="best so far")
    low = float(np.quantile(reached, 0.02))
    room = max(best[-1] - low, 1e-3 * max(1.0, abs(best[-1])))
    bottom, top = low - 0.06 * room, float(best[-1]) + 0.12 * room
    if partition.upper_bound is not None and partition.upper_bound <= best[-1] + 0.6 * room:
        top = max(top, partition.upper_bound + 0.08 * room)
        axes.axhline(partition.upper_bound, color=PALETTE[3], lw=1.2, ls="--", label="upper bound")
    below = int((reached < bottom).sum())
    axes.set_ylim(bottom, top)
    axes.axvline(first, color=FAINT, lw=1, zorder=0)
    hidden = f"; {below} lie below the picture" if below else ""
    axes.set_xlabel(f"restart (the best was first reached by restart {first}{hidden})", color=INK)
    axes.set_ylabel("objective (Eq. 2)")
    axes.grid(axis="y", color=FAINT, lw=0.5, alpha=0.6)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2)
