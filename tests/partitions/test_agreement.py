"""How far sets follow stages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_search.partitions.agreement import adjusted_mutual_information, follows_stages
from zoo_search.partitions.api import partition

labels = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60)


@settings(deadline=None)
@given(labels)
def test_agreement_is_that_of_scikit_learn(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    one, other = zip(*pairs, strict=True)
    expected = metrics.adjusted_mutual_info_score(one, other)
    assert adjusted_mutual_information(one, other) == pytest.approx(expected, abs=1e-6)


def test_sets_that_are_the_stages_agree_and_random_ones_do_not(zoo_table):
    stages = [0, 1, 2, 3] * 50
    assert adjusted_mutual_information(stages, [3 - s for s in stages]) == pytest.approx(1)
    shuffled = np.random.default_rng(0).permutation(stages)
    assert abs(adjusted_mutual_information(stages, list(shuffled))) < 0.05
    assert follows_stages(partition(zoo_table([8, 12, 16, 20]), restarts=20)) > 0.8
