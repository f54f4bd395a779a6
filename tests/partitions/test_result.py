from __future__ import annotations

import json
import subprocess
import sys

import pytest

import zoo_search
from zoo_search.core.errors import UserError
from zoo_search.partitions.api import partition
from zoo_search.partitions.result import Partition


@pytest.fixture(scope="module")
def found(zoo_table):
    return partition(zoo_table([8, 12, 16]), k=4, restarts=6, seed=3)


def test_the_file_has_the_documented_form(found, tmp_path):
    path = tmp_path / "deep" / "partition.json"
    found.save(path)
    data = json.loads(path.read_text())
    assert list(data) == [
        "format", "k", "eps", "size", "method", "objective", "upper_bound", "anchors", "blocks",
        "restarts",
    ]  # fmt: skip
    assert data["format"] == 1
    assert [set(anchor) for anchor in data["anchors"]] == [{"model", "start", "stop"}] * 4
    fields = {"model", "start", "stop", "stage", "set", "similarity"}
    assert [set(block) for block in data["blocks"]] == [fields] * 12
    assert [set(restart) for restart in data["restarts"]] == [
        {"seed", "objective", "iterations"}
    ] * 6
    assert [item.name for item in path.parent.iterdir()] == ["partition.json"]


def test_it_comes_back_as_it_was(found, tmp_path):
    found.save(tmp_path / "partition.json")
    assert Partition.load(tmp_path / "partition.json") == found
    assert Partition.load(str(tmp_path / "partition.json")) == found
    found.save("memory://partition-test/partition.json")
    assert Partition.load("memory://partition-test/partition.json") == found


def test_sets_are_numbered_by_depth_and_restarts_keep_their_order(found, zoo_table):
    depth = [anchor.start / {"m0": 8, "m1": 12, "m2": 16}[anchor.model] for anchor in found.anchors]
    assert depth == sorted(depth)
    more = partition(zoo_table([8, 12, 16]), k=4, restarts=9, seed=3)
    assert more.restarts[:6] == found.restarts
    assert len({restart.seed for restart in more.restarts}) == 9
    assert all(restart.seed < 2**53 for restart in more.restarts)
    assert found.objective == max(restart.objective for restart in found.restarts)
    assert 0 <= found.gap < 0.2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "format None"),
        ('{"format": 3}', "format 3"),
        ('{"format": 1}', "'upper_bound' is missing"),
        ('{"format": 1, "k": 1, "eps": 0.2, "size": "nodes", "method": "exact", "objective": 1,'
         '"upper_bound": null, "anchors": [{"model": "a"}], "blocks": [], "restarts": []}',
         "missing"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_partition_is_refused(tmp_path, text, words):
    path = tmp_path / "partition.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        Partition.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Partition.load(tmp_path / "none.json")


def test_the_public_name_works_whatever_was_imported_first(zoo_table):
    table = zoo_table([8])
    assert zoo_search.partition(table, k=2, eps=0.5, restarts=1).k == 2
    code = (
        "import zoo_search.partitions.result, zoo_search as zs, sys; "
        "assert callable(zs.partition); "
        "assert not {'ray', 'torch', 'timm', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
