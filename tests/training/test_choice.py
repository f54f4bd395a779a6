"""Which weights are kept: the rule against its definition, and what survives an interruption."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from zoo_search.training.accuracy import Predictions
from zoo_search.training.choice import Choice, Kept, as_written, clearly_worse
from zoo_search.training.metrics import METRICS, Metric, confusion, differences, score


def predictions(right: Sequence[bool]) -> Predictions:
    labels = np.zeros(len(right), dtype=np.int64)
    return Predictions(labels, 1 - np.asarray(right, dtype=np.int64), np.ones(len(right)))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_worse_by_more_than_two_standard_errors_of_a_paired_difference(
    pairs: list[tuple[bool, bool]],
) -> None:
    """In counts: ``lost`` images that only the best gets right, ``won`` that only the other does.

    The variance of their difference over n images is (lost + won - (lost - won)^2 / n) / (n - 1).
    """
    best, right = (np.asarray(column) for column in zip(*pairs, strict=True))
    lost, won, n = int((best & ~right).sum()), int((right & ~best).sum()), len(pairs)
    error = math.sqrt((lost + won - (lost - won) ** 2 / n) / (n - 1) / n)
    gap = (lost - won) / n
    if lost + won < 4:  # too few to tell anything
        assert not clearly_worse(right, best)
    elif not math.isclose(gap, 2 * error):
        assert clearly_worse(right, best) is (gap > 2 * error)


def test_three_images_are_not_clear_and_four_are() -> None:
    """Of 40, where nothing else changes: the error is about the root of their number."""
    best = np.ones(40, dtype=bool)
    for wrong, clear in ((0, False), (1, False), (3, False), (4, True), (40, True)):
        right = best.copy()
        right[:wrong] = False
        assert clearly_worse(right, best) is clear


def weights(value: float) -> nn.Module:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, value)
    return net


def test_the_latest_weights_that_are_not_clearly_worse_than_the_best_are_kept() -> None:
    choice, net = Choice(), weights(99.0)
    choice.put_into(net)
    assert choice.kept is None
    assert float(net.weight.detach()) == 99.0  # nothing is kept yet
    wrong = {0: 20, 1: 8, 2: 2, 3: 3, 4: 5, 5: 3, 6: 12}  # of 40 images, by epoch
    for epoch, count in wrong.items():
        right = [i >= count for i in range(40)]
        choice.offer(weights(float(epoch)), predictions(right), "frozen", epoch)
    # Epoch 2 is best, and 5 is one image below; 4 and 6 are too far.
    assert choice.kept == Kept("frozen", 5, 37 / 40, 1.0)
    choice.put_into(net)
    assert float(net.weight.detach()) == 5.0
    # The next protocol has to be as good as what the one before ended with: 37.
    for epoch, (count, kept) in enumerate([(6, False), (4, False), (3, True), (0, True)], start=1):
        choice.offer(weights(7.0), predictions([i >= count for i in range(40)]), "full", epoch)
        assert (choice.kept == Kept("full", epoch, (40 - count) / 40, 1.0)) is kept
    # Three below its own best are not clear, and as good as the protocol before; four are worse.
    for epoch, (count, kept) in enumerate([(3, True), (4, False)], start=5):
        choice.offer(weights(8.0), predictions([i >= count for i in range(40)]), "full", epoch)
        assert (choice.kept.epoch == epoch) is kept


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_a_protocol_left_is_not_given_up_for_anything_worse(interrupted: bool) -> None:
    """By one image of 40, whatever standard errors say; and after an interruption, too."""
    choice = Choice()
    for protocol, wrong in (("frozen", 3), ("full", 2)):
        choice.offer(weights(1.0), predictions([i >= wrong for i in range(40)]), protocol, 1)
    if interrupted:
        kept, tensors, choice = choice.kept, choice.tensors(), Choice()
        choice.resume(kept, tensors)
    choice.offer(weights(2.0), predictions([i >= 4 for i in range(40)]), "full", 2)
    assert choice.kept == Kept("full", 1, 38 / 40, 1.0)


def test_a_choice_goes_on_where_another_was() -> None:
    first = Choice()
    first.offer(weights(1.0), predictions([True] * 8), "frozen", 3)
    second = Choice()
    second.resume(first.kept, first.tensors())
    assert second.kept == first.kept
    for choice in (first, second):
        choice.offer(weights(2.0), predictions([False] * 8), "frozen", 4)
    net = weights(0.0)
    second.put_into(net)
    assert float(net.weight.detach()) == 1.0
    empty = Choice()
    empty.resume(None, Choice().tensors())
    assert empty.kept is None


def test_kept_weights_are_a_copy() -> None:
    choice, net = Choice(), weights(1.0)
    choice.offer(net, predictions([True]), "full", 1)
    with torch.no_grad():
        net.weight.fill_(5.0)
    choice.put_into(net)
    assert float(net.weight.detach()) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def unequal() -> tuple[Predictions, Predictions]:
    """What two classifiers say of 75 eights, 15 threes and 15 nines, by three of their pixels.

    Both learned from as many others; for the second one all classes counted alike.
    """
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    data = load_digits()
    pixels = data.data[:, [20, 28, 36]]
    places = [np.flatnonzero(data.target == c)[:n] for c, n in ((8, 150), (3, 30), (9, 30))]
    train = np.concatenate([p[: len(p) // 2] for p in places])
    held = np.concatenate([p[len(p) // 2 :] for p in places])
    found = []
    for weights in (None, "balanced"):
        model = LogisticRegression(C=0.01, class_weight=weights)
        said = model.fit(pixels[train], data.target[train]).predict(pixels[held])
        found.append(Predictions(data.target[held], said, np.ones(len(held))))
    return found[0], found[1]


def by(metric: Metric, found: Predictions) -> Predictions:
    return Predictions(found.labels, found.predicted, found.losses, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_the_metric_that_chooses_says_which_epoch_is_kept(
    metric: Metric, unequal: tuple[Predictions, Predictions]
) -> None:
    """By accuracy the first classifier is better, by what counts all classes alike the second."""
    alike = metric != "accuracy"
    values = [score(metric, confusion(*found.answers)) for found in unequal]
    assert (values[1] > values[0]) is alike
    choice = Choice()
    for epoch, found in enumerate(unequal, start=1):
        choice.offer(weights(float(epoch)), by(metric, found), "full", epoch)
    assert choice.kept is not None
    assert choice.kept.epoch == (2 if alike else 1)
    assert choice.kept.score == pytest.approx(max(values), abs=1e-12)
    assert choice.kept.validation_accuracy == unequal[choice.kept.epoch - 1].accuracy
    assert ("validation_score" in as_written(choice.kept)) is alike
    # The other way round, and interrupted between the two.
    first, second = Choice(), Choice()
    first.offer(weights(2.0), by(metric, unequal[1]), "full", 1)
    second.resume(first.kept, first.tensors())
    second.offer(weights(1.0), by(metric, unequal[0]), "full", 2)
    assert second.kept is not None
    labels, said = unequal[0].answers
    gaps = differences(metric, labels, unequal[1].answers[1], said)
    clear = gaps.mean() > 2 * gaps.std(ddof=1) / math.sqrt(len(gaps))
    assert second.kept.epoch == (1 if clear else 2)
