"""The picture of a confusion matrix: its colours, numbers and names."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from matplotlib.axes import Axes

from zoo_search.plots import confusion
from zoo_search.plots.confusion import confusion_picture


def test_colours_are_shares_of_rows_and_cells_tell_their_number(
    drawn: Callable[[ModuleType], list[Axes]],
) -> None:
    found = drawn(confusion)
    counts = np.array([[90, 10, 0], [0, 4, 0], [0, 0, 0]])
    confusion_picture(counts, ("cat", "a very long name of a class indeed", "$x$"))
    axes = found[0]
    shares = axes.images[0].get_array()
    assert shares is not None
    assert np.ma.filled(shares, -1.0).tolist() == [[90, 10, 0], [0, 100, 0], [-1, -1, -1]]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "90", (1, 0): "10", (1, 1): "4",
    }  # fmt: skip
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["cat", "a very long name of a c…", "$x$"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


@pytest.mark.parametrize("size", [1, 40, 300])
def test_any_number_of_classes_is_a_picture(size: int) -> None:
    data = confusion_picture(np.eye(size, dtype=np.int64), [f"c{n}" for n in range(size)], "png")
    assert data.startswith(b"\x89PNG")
