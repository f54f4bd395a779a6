"""Which classes are taken for which, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zoo_search.plots.style import Format, new_figure, render

_COUNTED = 25  # classes up to which cells tell their number
_LABELLED = 80  # classes up to which each one is named
_LONGEST = 24  # letters of a name


def confusion_picture(
    counts: npt.NDArray[np.int64], classes: Sequence[str], form: Format = "svg"
) -> bytes:
    """Draw a confusion matrix: rows are true classes, columns what they were taken for.

    Colours are shares of a row, so that classes with few images are seen as well as others; cells
    of a small matrix tell their number of images. Rows without images stay white.

    Args:
        counts: ``[C, C]``.
        classes: Names, in order.
        form: Of the picture.
    """
    size, total = len(classes), counts.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    inch = min(0.5, max(6.0 / size, 0.12 if size <= _LABELLED else 0.01))
    side = max(size * inch, 2.2)
    figure, axes = new_figure(side + 2.6, side + 1.4)
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.spines[:].set_visible(False)
    names = [_short(name) for name in classes]
    letters = min(8.0, 0.8 * inch * 72)
    if size <= _LABELLED:
        axes.set_xticks(range(size), names, rotation=90, fontsize=letters)
        axes.set_yticks(range(size), names, fontsize=letters)
        axes.tick_params(length=0)
    if size <= _COUNTED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column, row, f"{counts[row, column]:,}", ha="center", va="center",
                fontsize=min(8.0, 0.3 * inch * 72),
                color="white" if shares[row, column] > 0.55 else "#22272e",
            )  # fmt: skip
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02, aspect=30)
    bar.set_label("share of the true class (%)")
    bar.outline.set_visible(False)
    return render(figure, form)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
