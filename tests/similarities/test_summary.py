"""Which models are most alike."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_search.similarities.table import ModelCuts, SimilarityTable, pairs


def test_the_most_alike_come_first_with_where_their_best_match_stands() -> None:
    models = {name: ModelCuts(["image", f"{name}1", f"{name}2"], [1, 1], [1, 1]) for name in "abc"}
    values = np.full((9, 9), 0.1)
    np.fill_diagonal(values, 1)
    values[0, 3] = values[3, 0] = 0.99  # the image itself is no match between models
    values[4, 8] = values[8, 4] = 0.7  # b1 and c2
    values[1, 5] = values[5, 1] = 0.4  # a1 and b2
    found = pairs(SimilarityTable(models, values))
    assert [(row["model_a"], row["model_b"]) for row in found] == [
        ("a", "b"),
        ("b", "c"),
        ("a", "c"),
    ]
    assert [row["best"] for row in found] == pytest.approx([0.4, 0.7, 0.1])
    assert [row["at"] for row in found] == ["a1 | b2", "b1 | c2", "a1 | c1"]
    # Of six cuts, two find 0.99, two 0.4, and two no more than 0.1.
    assert found[0]["mean_best"] == pytest.approx((2 * 0.99 + 2 * 0.4 + 2 * 0.1) / 6)
