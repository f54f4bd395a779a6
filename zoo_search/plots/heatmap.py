"""Similarity as a picture: a pair of models, or the whole zoo (DeRy Figure 5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from zoo_search.core.errors import UserError, require
from zoo_search.plots.style import Format, new_figure, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zoo_search.similarities.table import SimilarityTable

_LABELLED = 110  # cuts up to which each one is labelled; with more, models only
_SMALLEST = 0.09  # inches of a cut that is labelled, at least
_LETTER = 0.085  # inches of a letter of a model's name
_NAMES = {
    "cka": "linear CKA (unbiased, minibatch)",
    "cka_biased": "linear CKA (biased)",
    "rbf_cka": "RBF CKA (unbiased, minibatch)",
    "lr": "linear regression R² (column from row)",
}


def heat_map(
    table: SimilarityTable, pair: tuple[str, str] | None = None, form: Format = "svg"
) -> bytes:
    """Draw the similarity of the cuts of a pair of models (rows, columns), or of the whole zoo.

    Colours go from 0 to 1; what is below 0 has the colour of 0.

    Raises:
        UserError: If the table holds no such model.
    """
    rows, columns = ([pair[0]], [pair[1]]) if pair else (list(table.models), list(table.models))
    values = np.block([[table.block(a, b) for b in columns] for a in rows])
    height, width = values.shape
    inch = min(6.0 / max(values.shape), 0.32)
    if max(values.shape) <= _LABELLED:
        inch = max(inch, _SMALLEST)
    figure, axes = new_figure(max(width * inch, 2.4) + 2.4, max(height * inch, 2.0) + 1.4)
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_visible(False)
    size = min(8.0, 0.78 * inch * 72)
    for side, models, cuts in (("y", rows, height), ("x", columns, width)):
        _label_cuts(axes, table, models, side, size if cuts <= _LABELLED else None)
        if pair:
            (axes.yaxis if side == "y" else axes.xaxis).set_label_text(models[0])
        else:
            _label_models(axes, table, models, side, inch)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02, aspect=30)
    metric = str(table.metadata.get("metric", "similarity"))
    bar.set_label(_NAMES.get(metric, metric))
    bar.outline.set_visible(False)
    return render(figure, form)


def parse_pair(text: str | None, zoo: Iterable[str]) -> tuple[str, str] | None:
    """Return the two names of ``a,b``, or none for none; a UserError names an unknown model."""
    if text is None:
        return None
    known = list(zoo)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        problem = f"--pair {text}: there is no model '{name}'."
        require(name, known, problem, "Give two models of the zoo with a comma between them")
    if len(names) != 2:
        raise UserError(f"--pair takes two models with a comma between them, not '{text}'.")
    return names[0], names[1]


def _label_cuts(
    axes: Axes, table: SimilarityTable, models: list[str], side: str, size: float | None
) -> None:
    """Name each cut along one axis in letters of that size, or none; a line between models."""
    names = [table.models[model].cuts for model in models]
    edges = np.cumsum([0, *map(len, names)])
    axis, line = (axes.yaxis, axes.axhline) if side == "y" else (axes.xaxis, axes.axvline)
    for edge in edges[1:-1]:
        line(edge - 0.5, color="white", linewidth=1.2)
    if size is None:
        axis.set_ticks([])
        return
    axis.set_ticks(range(edges[-1]), [name for cuts in names for name in cuts])
    turn = 90 if side == "x" else 0
    axis.set_tick_params(length=0, labelsize=size, pad=2, labelrotation=turn)


def _label_models(
    axes: Axes, table: SimilarityTable, models: list[str], side: str, inch: float
) -> None:
    """Name the models on top or on the right; turned where a name is wider than its tile."""
    counts = [len(table.models[model].cuts) for model in models]
    middle = np.cumsum([0, *counts])[:-1] + (np.array(counts) - 1) / 2
    if side == "y":
        outer = axes.secondary_yaxis("right")
        outer.set_yticks(middle, models)
    else:
        outer = axes.secondary_xaxis("top")
        outer.set_xticks(middle, models)
        pairs = zip(models, counts, strict=True)
        if any(len(name) * _LETTER > count * inch for name, count in pairs):
            for label in outer.get_xticklabels():
                label.set(rotation=40, ha="left", rotation_mode="anchor")
    outer.spines[:].set_visible(False)
    outer.tick_params(length=0)
