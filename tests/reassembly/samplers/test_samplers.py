"""Samplers by name; what each keeps to is held in ``tests/testing/test_samplers.py``."""

from __future__ import annotations

import math

import numpy as np
import pytest
from reassembly.samplers.proposing import propose

from zoo_search.core.errors import UserError
from zoo_search.reassembly.samplers import SAMPLERS


@pytest.mark.parametrize("name", ["tpe", "nsga2", "cpsat"])
def test_late_proposals_score_higher_than_a_uniform_sample(wide, scores, name):
    everything = np.array(list(scores.values()))
    late = [scores[r.key] for seed in range(4) for r in propose(name, wide, scores, seed, 50)[25:]]
    error = everything.std() / math.sqrt(len(late))
    assert np.mean(late) > everything.mean() + 3 * error


def test_an_unknown_name_is_told_with_the_nearest(space):
    with pytest.raises(UserError, match="Did you mean 'nsga2'"):
        SAMPLERS.get("nsga", "search.sampler")(space, 5, 0)
