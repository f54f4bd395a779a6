from __future__ import annotations

import numpy as np
import pytest

from zoo_search import engine
from zoo_search.config import PartitionConfig
from zoo_search.errors import UserError
from zoo_search.partition import step
from zoo_search.partition.api import partition
from zoo_search.partition.problem import from_table
from zoo_search.partition.restarts import restart_seeds, run_restarts
from zoo_search.partition.result import Partition
from zoo_search.store import RunStore

DEPTHS = [8, 12, 16, 17]


@pytest.mark.parametrize(
    "config", [{}, {"method": "kl"}, {"one_per_set": True, "k": 3, "eps": 0.3}]
)
def test_the_step_writes_what_the_function_gives(zoo_table, tmp_path, config, capsys):
    table, settings = zoo_table(DEPTHS), PartitionConfig(restarts=60, **config)
    store = RunStore(tmp_path / "run")
    found = step.solve(table, settings, 7, store)
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


def test_an_infeasible_problem_writes_nothing(zoo_table, tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match=r"partition\.eps"):
        step.solve(zoo_table([9]), PartitionConfig(), 0, store)
    assert not store.exists("partition.json")


@pytest.mark.parametrize("method", ["exact", "kl", "random"])
def test_the_same_seeds_give_the_same_answer_on_ray(ray_cluster, zoo_table, method, same):
    assert engine.connected()
    problem, seeds = from_table(zoo_table(DEPTHS)), restart_seeds(5, 40)
    whole = run_restarts(problem, method, seeds)
    for chunk in (1, 7, 40, None) if method == "exact" else (9,):
        same(step.spread(problem, method, seeds, chunk=chunk, worth_a_worker=0.0), whole)
    same(step.spread(problem, method, seeds, worth_a_worker=np.inf), whole)


def test_ties_go_to_the_smallest_seed(random_problem):
    problem = random_problem([8], k=4, eps=0.5)  # one model: every restart reaches 2 K
    seeds = restart_seeds(0, 30)
    parts = [run_restarts(problem, "exact", seeds[i : i + 7]) for i in range(0, 30, 7)]
    alone = run_restarts(problem, "exact", np.array([seeds.min()]))
    found = step.merge(reversed(parts))
    np.testing.assert_array_equal(found.best.cuts, alone.best.cuts)
