"""The integer program against a list of all recipes."""

import pytest
from reassembly.space.every_recipe import every_recipe

from zoo_search.costs import Budget
from zoo_search.reassembly import Space


@pytest.mark.parametrize("limit", [1e3, 1e30])
def test_limits_of_any_size_are_taken(partition, costs, limit):
    """The program's numbers have 64 bits; a limit in the run file has none."""
    highs = Budget(max_params=limit, max_macs=limit, max_latency_ms=limit, max_memory=limit)
    lows = Budget(min_params=limit, min_macs=limit)
    everything = set(every_recipe(partition, costs))
    for budget, ok in ((highs, limit > 1e9), (lows, limit < 1e9)):
        space = Space(partition, costs, budget)
        assert set(space.enumerate()) == (everything if ok else set())
        assert space.nearest() in everything
