"""The best recipes of a space against brute force."""

import pytest
from reassembly.space.every_recipe import brute_force, every_recipe

from zoo_search.core.errors import UserError
from zoo_search.costs import Budget
from zoo_search.reassembly import Space
from zoo_search.testing.small import partition_of

BUDGET = Budget(max_params=5.0e6, max_macs=6e7, min_params=1e6)


def test_cheapest_is_that_of_brute_force(partition, costs):
    space = Space(partition, costs, BUDGET)
    feasible = brute_force(every_recipe(partition, costs), BUDGET)
    for what in ("params", "macs"):
        least = min(getattr(costs.cost(r), what) for r in feasible)
        assert getattr(costs.cost(space.cheapest(what)), what) == least
    everything = brute_force(every_recipe(partition, costs), Budget())
    least = min(costs.cost(r).macs for r in everything)
    assert costs.cost(space.cheapest("macs", budget=False)).macs == least


def test_an_infeasible_budget_names_the_cheapest_recipe_and_its_cost(partition, costs):
    space = Space(partition, costs, Budget(max_macs=1e6))
    cheapest = space.cheapest("macs", budget=False)
    with pytest.raises(UserError) as error:
        space.sample(3)
    message = str(error.value)
    assert str(cheapest) in message
    assert str(costs.cost(cheapest)) in message
    assert "MACs <= 1e+06" in message
    assert "\n" not in message


def test_the_nearest_recipe_to_a_budget(partition, costs):
    budget = Budget(max_macs=2.5e7, min_params=9e6)
    space = Space(partition, costs, budget)
    everything = brute_force(every_recipe(partition, costs), Budget())
    least = min(budget.excess(costs.cost(r)) for r in everything)
    assert budget.excess(costs.cost(space.nearest())) == pytest.approx(least, abs=0.003)
    with pytest.raises(UserError, match="nearest"):
        space.cheapest()


def test_a_partition_without_any_recipe_says_so(costs):
    blocks = [("vit", stage, stage + 1, stage, 0) for stage in range(4)]
    space = Space(partition_of(4, blocks), costs, Budget())
    with pytest.raises(UserError, match="allows no recipe at all"):
        space.sample(1)


def test_an_infeasible_budget_names_what_fails(partition, costs):
    everything = every_recipe(partition, costs)
    for what, limit, words in (
        ("latency", {"max_latency_ms": 1e-3}, "one with the lowest latency"),
        ("memory", {"max_memory": 1000}, "one with the least activation memory"),
    ):
        space = Space(partition, costs, Budget(**limit))
        best = min(everything, key=lambda r, what=what: getattr(costs.cost(r), what))
        with pytest.raises(UserError) as caught:
            space.sample(2)
        message = str(caught.value)
        least = getattr(costs.cost(best), what)
        named = message.split(f"the {words} is ")
        if len(named) == 1:  # it is also the cheapest, or the one with the fewest parameters
            assert str(best) in message
        else:
            said = next(r for r in everything if named[1].startswith(f"{r}: "))
            assert getattr(costs.cost(said), what) == least
        assert "The cheapest recipe is" in message
        assert "\n" not in message
    relaxed = Budget(max_latency_ms=1e9, max_params=1)
    with pytest.raises(UserError) as caught:
        Space(partition, costs, relaxed).sample(2)
    assert "lowest latency" not in str(caught.value)
