from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_search.errors import UserError
from zoo_search.partition.agreement import adjusted_mutual_information, follows_stages
from zoo_search.partition.api import partition
from zoo_search.partition.picture import partition_picture, restarts_picture, write_png


@pytest.fixture(scope="module")
def found(zoo_table):
    return partition(zoo_table([8, 12, 16]), k=4, restarts=12, seed=3, certify=5.0)


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


def test_both_pictures_are_drawn_the_same_each_time(found):
    nodes = {"m0": 8, "m1": 12, "m2": 16}
    bars = partition_picture(found, nodes)
    assert bars.startswith(b"<?xml")
    assert bars == partition_picture(found, nodes)
    assert all(name.encode() in bars for name in nodes)
    assert restarts_picture(found) == restarts_picture(found)
    assert restarts_picture(found, "png").startswith(b"\x89PNG")


def test_the_png_holds_both(found, tmp_path):
    from matplotlib.image import imread

    write_png(found, tmp_path / "deep" / "p.png")
    height, width = imread(tmp_path / "deep" / "p.png").shape[:2]
    assert width == 1440
    assert height > 1000
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        write_png(found, tmp_path / "file" / "p.png")


def test_one_restart_and_one_model_can_be_drawn(zoo_table):
    one = partition(zoo_table([8]), k=2, eps=0.5, restarts=1)
    assert restarts_picture(one).startswith(b"<?xml")
    assert partition_picture(one, {"m0": 8}).startswith(b"<?xml")
