"""Intervals of accuracies and of their differences, over images and trainings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from zoo_search.report.comparison import difference, estimate


def test_a_single_training_has_the_paired_interval_of_its_images() -> None:
    """Against SciPy's paired t-test."""
    draw = np.random.default_rng(0)
    ours, theirs = draw.random((1, 300)) < 0.9, draw.random((1, 300)) < 0.85
    found = difference(ours, theirs)
    expected = stats.ttest_rel(ours[0].astype(float), theirs[0].astype(float))
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert (found.trainings, found.images) == (1, 300)


def test_trainings_that_agree_leave_the_spread_of_images_and_the_other_way_round() -> None:
    draw = np.random.default_rng(1)
    row = draw.normal(size=50)
    alike = estimate(np.tile(row, (3, 1)))
    low, high = stats.t.interval(0.95, 49, row.mean(), row.std(ddof=1) / np.sqrt(50))
    assert (alike.low, alike.high) == pytest.approx((low, high))
    column = draw.normal(size=4)
    alike = estimate(np.tile(column[:, None], (1, 20)))
    low, high = stats.t.interval(0.95, 3, column.mean(), column.std(ddof=1) / 2)
    assert (alike.low, alike.high) == pytest.approx((low, high))


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.05])
def test_the_interval_holds_the_truth_as_often_as_it_says(spread: float) -> None:
    """Networks drawn again and again: trainings differ by ``spread``, images by how hard they are.

    The truth is the mean over all trainings and images that could have been drawn.
    """
    draw = np.random.default_rng(2)
    hits, repeats, trainings, images = 0, 600, 3, 400
    for _ in range(repeats):
        hard = draw.normal(size=images)  # what both find hard
        own = draw.normal(scale=0.7, size=(2, images))  # what one of them finds hard
        level = draw.normal(scale=spread, size=(2, trainings, 1))
        noise = draw.normal(scale=0.5, size=(2, trainings, images))
        # Linear in all effects, so that the truth is the difference of the constants, 0.02.
        values = np.array([0.92, 0.90])[:, None, None] + level + 0.1 * (hard + own[:, None] + noise)
        found = estimate(values[0] - values[1])
        hits += found.low <= 0.02 <= found.high
    assert 0.935 <= hits / repeats <= 0.995


@pytest.mark.parametrize(("shift", "outcome"), [(0.5, "ahead"), (-0.5, "behind"), (0.0, "level")])
def test_an_outcome_is_clear_where_zero_is_outside(shift: float, outcome: str) -> None:
    values = np.random.default_rng(3).normal(size=(3, 200))
    assert estimate(values - values.mean() + shift).outcome == outcome


def test_no_difference_at_all_is_level_and_some_everywhere_is_not() -> None:
    same = np.ones((3, 10), dtype=bool)
    assert difference(same, same).outcome == "level"
    assert difference(same, ~same).outcome == "ahead"


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        difference(np.ones((3, 10), dtype=bool), np.ones((2, 10), dtype=bool))
    with pytest.raises(ValueError, match="no values"):
        estimate(np.ones((3, 0)))
