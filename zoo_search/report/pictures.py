"""The pictures of the report, as SVG bytes, from plain values."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zoo_search.partition.result import Partition
    from zoo_search.similarity.table import SimilarityTable

__all__ = ["PALETTE", "candidate_picture", "curve_picture", "heat_map", "partition_picture"]

PALETTE = ("#3b6fb6", "#e08a2e", "#3f9a6b", "#c1476b", "#7d62b8", "#8a7148", "#2f9bab", "#9aa13a")
"""Colours of sets and models, in order; far enough apart for colour-blind readers."""

_INK, _FAINT = "#22272e", "#c9d1d9"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    matplotlib.rcParams.update(
        {
            "font.size": 9,
            "axes.edgecolor": _FAINT,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "svg.hashsalt": "zoo-search",
        }
    )
    figure = Canvas(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def heat_map(table: SimilarityTable) -> bytes:
    """Draw the similarity of all cuts of all models, one tile a pair of models (DeRy Fig. 5)."""
    names = list(table.models)
    sizes = [len(table.models[name].cuts) for name in names]
    edges = np.concatenate([[0], np.cumsum(sizes)])
    values = np.block([[table.block(a, b) for b in names] for a in names])
    figure, axes = _figure(7.2, 6.2)
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color="white", linewidth=1.2)
        axes.axvline(edge - 0.5, color="white", linewidth=1.2)
    middle = (edges[:-1] + edges[1:] - 1) / 2
    axes.set_xticks(middle, names, rotation=30, ha="right")
    axes.set_yticks(middle, names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    bar.set_label(str(table.metadata.get("metric", "similarity")))
    bar.outline.set_visible(False)
    return _svg(figure)


def partition_picture(partition: Partition, nodes: Mapping[str, int]) -> bytes:
    """Draw one bar a model, its blocks coloured by set and the anchors marked with a star.

    Args:
        partition: The sets.
        nodes: Number of nodes of each model, in the order to draw them.
    """
    figure, axes = _figure(7.2, 0.55 * len(nodes) + 1.0)
    anchors = {(a.model, a.start, a.stop) for a in partition.anchors}
    rows = {name: row for row, name in enumerate(nodes)}
    for block in partition.blocks:
        row, total = rows[block.model], nodes[block.model]
        left, width = block.start / total, (block.stop - block.start) / total
        colour = PALETTE[block.set % len(PALETTE)]
        axes.barh(row, width, left=left, height=0.62, color=colour, edgecolor="white", linewidth=2)
        star = "★" if (block.model, block.start, block.stop) in anchors else ""
        label = f"{block.start}–{block.stop} {star}".strip() if width > 0.08 else star
        axes.text(left + width / 2, row, label, ha="center", va="center", color="white", fontsize=8)
        for cut in range(block.start + 1, block.stop):
            axes.plot([cut / total] * 2, [row - 0.31, row - 0.2], color="white", linewidth=0.8)
    axes.set_yticks(list(rows.values()), list(rows))
    axes.set_ylim(len(nodes) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("depth inside the model (ticks: nodes; ★: anchor of its set)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    handles = [
        axes.scatter([], [], marker="s", s=60, color=PALETTE[s % len(PALETTE)], label=f"set {s}")
        for s in range(partition.k)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=partition.k, frameon=False)
    return _svg(figure)


def candidate_picture(
    candidates: Sequence[Mapping[str, Any]], proxy: str, chosen: Mapping[str, str]
) -> bytes:
    """Draw score against cost.

    Args:
        candidates: Rows with ``kind``, ``key``, ``macs`` and ``score``.
        proxy: Name of the score.
        chosen: Key of a recipe to the name of the network that was fine-tuned.
    """
    figure, axes = _figure(7.2, 3.8)
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
        axes.scatter(*point, s=90, facecolor="none", edgecolor=_INK, linewidth=1.2, zorder=4)
        right = point[0] > (low + high) / 2
        axes.annotate(
            chosen[row["key"]],
            point,
            xytext=(-8 if right else 8, offset),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": _INK, "linewidth": 0.5, "shrinkB": 4},
            zorder=5,
        )
    axes.set_xlabel("cost in millions of multiply-adds (MACs)")
    axes.set_ylabel(f"{proxy} (higher is better)")
    axes.grid(color=_FAINT, linewidth=0.5, alpha=0.6)
    axes.legend(frameon=False, loc="best", title="ringed: fine-tuned")
    return _svg(figure)


def curve_picture(results: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the training loss over the epochs of all protocols, one line a network."""
    figure, axes = _figure(7.2, 3.8)
    styles = {"reassembly": "-", "single": "--", "random": ":"}
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
    axes.yaxis.set_minor_formatter("{x:g}")
    for border in sorted(borders)[:-1]:
        axes.axvline(border + 0.5, color=_FAINT, linewidth=1)
    top = axes.get_ylim()[1]
    left = 0
    names = list(results[0]["protocols"]) if results else []
    for border, name in zip(sorted(borders), names, strict=False):
        axes.text((left + border + 1) / 2, top, f"{name.upper()}-TUNING", ha="center", va="bottom")
        left = border
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.grid(color=_FAINT, linewidth=0.5, alpha=0.6)
    axes.legend(frameon=False, loc="upper right", fontsize=8)
    return _svg(figure)
