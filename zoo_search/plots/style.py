"""One look for all pictures: figures without decoration, and their bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#22272e", "#c9d1d9"
PALETTE = ("#3b6fb6", "#e08a2e", "#3f9a6b", "#c1476b", "#7d62b8", "#8a7148", "#2f9bab", "#9aa13a")
"""Colours of sets and models, in order; far enough apart for colour-blind readers."""
Format = Literal["svg", "png"]

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "zoo-search",
    "text.parse_math": False,  # names may hold $
}


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of so many inches and its axes."""
    figure, (axes,) = new_panels(width, height, 1)
    return figure, axes


def new_panels(width: float, height: float, count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches and its axes, one below the other over the same x."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    style: Any = matplotlib.rcParams
    style.update(_STYLE)
    figure = Canvas(figsize=(width, height), layout="constrained")
    panels: list[Axes] = list(figure.subplots(count, sharex=True, squeeze=False)[:, 0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def render(figure: Figure, form: Format = "svg") -> bytes:
    """Return a figure as SVG, the same bytes each time, or as PNG of 200 dots an inch."""
    stream = io.BytesIO()
    if form == "svg":
        figure.savefig(stream, format="svg", metadata={"Date": None})
    else:
        figure.savefig(stream, format="png", dpi=200, facecolor="white")
    return stream.getvalue()
