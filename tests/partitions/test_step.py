from __future__ import annotations

import pytest

from zoo_search.config import PartitionConfig
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.partitions import step
from zoo_search.partitions.api import partition
from zoo_search.partitions.result import Partition, load_partitions

DEPTHS = [8, 12, 16, 17]


@pytest.mark.parametrize(
    "config", [{}, {"method": "kl"}, {"one_per_set": True, "k": 3, "eps": 0.3}]
)
def test_the_step_writes_what_the_function_gives(zoo_table, tmp_path, config, capsys):
    table, settings = zoo_table(DEPTHS), PartitionConfig(restarts=60, **config)
    store = RunStore(tmp_path / "run")
    (found,) = step.solve(table, settings, 7, store)
    expected = partition(
        table,
        k=settings.k,
        eps=settings.eps,
        restarts=60,
        method=settings.method,
        seed=7,
        one_per_set=settings.one_per_set,
    )
    assert found == expected == Partition.load(store.path("partition.json"))
    assert "best objective" in capsys.readouterr().err


def test_several_numbers_of_blocks_are_one_file(zoo_table, tmp_path, capsys):
    """Each as it would be alone; of one number the file is what it was before there were more."""
    table, store = zoo_table(DEPTHS), RunStore(tmp_path / "run")
    found = step.solve(table, PartitionConfig(k=[4, 2, 4], restarts=20), 3, store)
    alone = [partition(table, k=k, restarts=20, seed=3) for k in (2, 4)]
    assert found == tuple(alone)
    path = store.path("partition.json")
    assert load_partitions(path) == found
    assert store.read_json("partition.json")["format"] == 2
    with pytest.raises(UserError, match="holds 2 partitions, with k = 2, 4"):
        Partition.load(path)
    step.solve(table, PartitionConfig(k=[4], restarts=20), 3, store)
    assert (store.read_json("partition.json")["format"], Partition.load(path)) == (1, alone[1])


def test_an_infeasible_problem_writes_nothing(zoo_table, tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match=r"partition\.eps"):
        step.solve(zoo_table([9]), PartitionConfig(), 0, store)
    assert not store.exists("partition.json")
