"""Metrics against scikit-learn, and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as theirs

from zoo_search.training.metrics import (
    METRICS,
    Ints,
    calibration_error,
    confusion,
    differences,
    per_class,
    score,
)

CLASSES = 5


@st.composite
def answers(draw: st.DrawFn, said: int = 1) -> list[Ints]:
    """Labels, of a few of five classes, and what some networks said."""
    count = draw(st.integers(1, 40))
    known = draw(st.integers(1, CLASSES))
    labels = draw(arrays(np.int64, count, elements=st.integers(0, known - 1)))
    classes = st.integers(0, CLASSES - 1)
    return [labels, *(draw(arrays(np.int64, count, elements=classes)) for _ in range(said))]


@given(answers())
def test_what_scikit_learn_gives(found: list[Ints]) -> None:
    labels, predicted = found
    counts = confusion(labels, predicted, CLASSES)
    every, there = range(CLASSES), np.unique(labels)
    assert np.array_equal(counts, theirs.confusion_matrix(labels, predicted, labels=every))
    assert score("accuracy", counts) == theirs.accuracy_score(labels, predicted)
    recall = theirs.recall_score(labels, predicted, labels=there, average="macro")
    assert score("balanced_accuracy", counts) == pytest.approx(recall, abs=1e-12)
    f1 = theirs.f1_score(labels, predicted, labels=there, average="macro", zero_division=0)
    assert score("macro_f1", counts) == pytest.approx(f1, abs=1e-12)
    expected = theirs.precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=0
    )
    each = per_class(counts)
    ours = (each.precision, each.recall, each.f1, each.count)
    for mine, other in zip(ours, expected, strict=True):
        assert mine == pytest.approx(other, abs=1e-12)


@given(answers(said=2))
def test_differences_of_images_have_the_difference_of_the_metric_as_their_mean(
    found: list[Ints],
) -> None:
    labels, first, second = found
    for metric in METRICS:
        each = differences(metric, labels, first, second)
        gap = score(metric, confusion(labels, first)) - score(metric, confusion(labels, second))
        assert each.mean() == pytest.approx(gap, abs=1e-12)
        assert not each[first == second].any()
        assert np.allclose(each, -differences(metric, labels, second, first))


def test_a_known_example() -> None:
    """Nine images of one class and one of another: all for the first is right for nine of ten."""
    labels, lazy = np.array([0] * 9 + [1]), np.zeros(10, dtype=np.int64)
    counts = confusion(labels, lazy, 2)
    assert score("accuracy", counts) == 0.9
    assert score("balanced_accuracy", counts) == 0.5
    assert score("macro_f1", counts) == pytest.approx(0.5 * 18 / 19)
    assert score("macro_f1", confusion(labels[:0], lazy[:0])) == 0.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 20))
def test_calibration_error_is_guos(seed: int, count: int, bins: int) -> None:
    """Eq. 3: the sum over bins of their share times how far accuracy and confidence are apart."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(3), count)
    labels = random.integers(0, 3, count)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for number in range(bins):
        inside = (sure > number / bins) & (sure <= (number + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-9)


def test_calibration_at_the_ends() -> None:
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert calibration_error(sure, np.array([0, 0])) == 0.0
    assert calibration_error(sure, np.array([0, 1])) == 0.5
    assert calibration_error(sure, np.array([-1, -1])) == 1.0
    assert calibration_error(sure[:0], np.empty(0, dtype=np.int64)) == 0.0
