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
from zoo_search.training.choice import Choice, Kept, clearly_worse


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
    # The next protocol has to come near the best of the one before.
    choice.offer(weights(7.0), predictions([i >= 6 for i in range(40)]), "full", 1)
    assert choice.kept.protocol == "frozen"
    choice.offer(weights(8.0), predictions([True] * 40), "full", 2)
    assert choice.kept == Kept("full", 2, 1.0, 1.0)


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
