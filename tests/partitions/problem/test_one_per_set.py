"""A model's blocks lie in different sets, unless Eqs. 3-5 alone are asked for."""

from __future__ import annotations

import inspect

import pytest

import zoo_search as zs
from zoo_search.config import PartitionConfig
from zoo_search.core.errors import UserError
from zoo_search.partitions.problem.definition import PartitionProblem, from_table


def sets_of(partition):
    models = dict.fromkeys(block.model for block in partition.blocks)
    return {m: sorted(b.set for b in partition.blocks if b.model == m) for m in models}


def test_it_is_the_default_wherever_there_is_one():
    assert PartitionConfig().one_per_set
    for call in (zs.partition, from_table, PartitionProblem):
        assert inspect.signature(call).parameters["one_per_set"].default is True


def test_the_default_is_the_best_of_its_kind_and_equations_3_to_5_alone_are_free(
    random_table, brute
):
    """Against every partition, every choice of anchors and every assignment."""
    table = random_table([4, 5, 4], 7)
    default = zs.partition(table, k=3, eps=1.0, restarts=40)
    alone = zs.partition(table, k=3, eps=1.0, restarts=40, one_per_set=False)
    assert all(sets == [0, 1, 2] for sets in sets_of(default).values())
    assert any(sets != [0, 1, 2] for sets in sets_of(alone).values())
    for found, one_per_set in ((default, True), (alone, False)):
        problem = from_table(table, k=3, eps=1.0, one_per_set=one_per_set)
        assert found.objective == pytest.approx(brute(problem).best(), abs=1e-9)
    assert alone.objective > default.objective + 0.01


def test_too_many_sets_are_refused_with_what_to_do(random_table):
    table = random_table([16, 12])
    with pytest.raises(UserError, match=r"up to k = 10.*smaller k, or 'one_per_set: false'"):
        zs.partition(table, k=11, eps=1.0, restarts=2)
    assert zs.partition(table, k=11, eps=1.0, restarts=2, one_per_set=False).k == 11
