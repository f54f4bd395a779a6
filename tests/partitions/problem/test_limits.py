"""The size limit: who breaks it, and the smallest eps that works, against all partitions."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_search.core.errors import UserError
from zoo_search.partitions.api import partition
from zoo_search.partitions.check import check
from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.problem.limits import (
    longest_blocks,
    size_limit,
    smallest_eps,
    smallest_largest_block,
)
from zoo_search.similarities.table import ModelCuts

sizes_of_nodes = st.lists(st.integers(0, 20), min_size=1, max_size=9).filter(lambda s: sum(s) > 0)


def feasible(sizes: list[int], k: int, eps: float) -> bool:
    limit = (1 + Fraction(str(eps))) * sum(sizes) / k
    return any(
        all(sum(sizes[a:b]) < limit for a, b in itertools.pairwise((0, *inner, len(sizes))))
        for inner in itertools.combinations(range(1, len(sizes)), k - 1)
    )


@given(sizes_of_nodes, st.data())
def test_smallest_largest_block_is_that_of_all_partitions(sizes, data):
    k = data.draw(st.integers(1, len(sizes)))
    expected = min(
        max(sum(sizes[a:b]) for a, b in itertools.pairwise((0, *inner, len(sizes))))
        for inner in itertools.combinations(range(1, len(sizes)), k - 1)
    )
    assert smallest_largest_block(sizes, k) == expected


@given(sizes_of_nodes, st.data())
def test_smallest_eps_works_and_the_next_smaller_decimal_does_not(sizes, data):
    k = data.draw(st.integers(1, len(sizes)))
    eps = smallest_eps(sizes, k)
    assert feasible(sizes, k, eps)
    assert not feasible(sizes, k, round(eps - 0.0001, 4))


@given(sizes_of_nodes, st.fractions(0, 200))
def test_longest_blocks(sizes, limit):
    for start, stop in enumerate(longest_blocks(sizes, limit)):
        assert sum(sizes[start:stop]) < limit or stop == start
        assert stop == len(sizes) or sum(sizes[start : stop + 1]) >= limit


def test_the_limit_is_strict_and_reads_eps_as_a_decimal():
    # (1 + 0.2) * 10 / 4 is exactly 3, although 0.2 is no binary fraction
    assert size_limit(10, 4, 0.2) == 3
    assert longest_blocks([1] * 10, size_limit(10, 4, 0.2))[0] == 2


@pytest.mark.parametrize(("size", "node"), [("nodes", "node8"), ("params", "node9")])
def test_an_infeasible_limit_names_model_node_and_an_eps_that_works(random_table, size, node):
    table = random_table([12, 10, 8])
    params = [1, 1, 1, 1, 1, 1, 1, 1, 1, 60]
    table.models["m1"] = ModelCuts(table.models["m1"].cuts, params, params)
    for name in ("m0", "m2"):
        cuts = table.models[name].cuts
        table.models[name] = ModelCuts(cuts, [5] * (len(cuts) - 1), [5] * (len(cuts) - 1))
    with pytest.raises(UserError) as caught:
        partition(table, k=4, eps=0.2, restarts=1, size=size)
    message = str(caught.value)
    assert "'m1'" in message
    assert f"'{node}'" in message
    eps = float(re.search(r"every model of this zoo is ([\d.]+\d)", message)[1])
    found = partition(table, k=4, eps=eps, restarts=5, size=size)
    check(from_table(table, k=4, eps=eps, size=size), found)
    with pytest.raises(UserError):
        partition(table, k=4, eps=round(eps - 0.0001, 4), restarts=1, size=size)


def test_the_smallest_eps_is_that_of_the_whole_zoo(random_table):
    table = random_table([10, 5, 8])
    with pytest.raises(
        UserError, match=r"Model 'm0' .* zoo is 0.6001 \(model 'm0' alone needs 0.2001"
    ):
        from_table(table, k=4, eps=0.2)
    from_table(table, k=4, eps=0.6001)


def test_a_model_with_fewer_nodes_than_blocks_is_named(random_table):
    with pytest.raises(UserError, match="'m1' has 3 nodes, fewer than the k = 4"):
        from_table(random_table([8, 3]), k=4)
