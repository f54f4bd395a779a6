from __future__ import annotations

import io

import pytest

from zoo_search.partitions.api import partition
from zoo_search.plots.sets import both_pictures, partition_picture, restarts_picture


@pytest.fixture(scope="module")
def found(zoo_table):
    return partition(zoo_table([8, 12, 16]), k=4, restarts=12, seed=3, certify=5.0)


def test_both_pictures_are_drawn_the_same_each_time(found):
    nodes = {"m0": 8, "m1": 12, "m2": 16}
    bars = partition_picture(found, nodes)
    assert bars.startswith(b"<?xml")
    assert bars == partition_picture(found, nodes)
    assert all(name.encode() in bars for name in nodes)
    assert restarts_picture(found) == restarts_picture(found)


def test_the_png_holds_both(found):
    from matplotlib.image import imread

    height, width = imread(io.BytesIO(both_pictures(found))).shape[:2]
    assert width == 1440
    assert height > 1000


def test_one_restart_and_one_model_can_be_drawn(zoo_table):
    one = partition(zoo_table([8]), k=2, eps=0.5, restarts=1)
    assert restarts_picture(one).startswith(b"<?xml")
    assert partition_picture(one, {"m0": 8}).startswith(b"<?xml")
