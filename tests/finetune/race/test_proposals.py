"""What is tried next follows from what was tried, and learns from it."""

from __future__ import annotations

import math
from statistics import fmean

from zoo_search.finetune.race.proposals import propose
from zoo_search.finetune.tasks import Values


def test_proposals_follow_from_what_was_tried_alone() -> None:
    told = [(Values(1.0, 0.05), 0.0), (Values(2.0, 0.1), 0.1)]
    assert propose(told, 3, 0) == propose(told, 3, 0)
    assert propose(told, 3, 0) != propose(told, 3, 1)
    assert propose(told, 3, 0) != propose(told[:1], 3, 0)
    found = propose([], 200, 0)
    assert len(set(found)) > 190
    assert all(0.25 <= one.rate <= 4 and 0.005 <= one.decay <= 0.5 for one in found)


def test_a_decay_that_lies_outside_is_learned_from_too() -> None:
    assert len(propose([(Values(1.0, 0.0), 0.0)], 2, 0)) == 2


def test_proposals_go_where_gains_are() -> None:
    """Against draws without a lesson: nearer, in octaves, to the rate that gains most."""

    def gain(values: Values) -> float:
        return -abs(math.log2(values.rate) - 1.5)

    drawn = propose([], 24, 0)
    taught = propose([(one, gain(one)) for one in drawn], 24, 0)
    assert fmean(map(gain, taught)) > fmean(map(gain, drawn)) + 0.5
