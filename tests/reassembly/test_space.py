import itertools
from collections import Counter
from types import SimpleNamespace

import pytest

from zoo_search.errors import UserError
from zoo_search.reassembly import BlockRef, Budget, Cost, CostTable, Recipe, Space

BUDGET = Budget(max_params=5.0e6, max_macs=6e7, min_params=1e6)


@pytest.fixture(scope="module")
def costs(zoo) -> CostTable:
    return CostTable(zoo, 10)


def brute_force(space: Space, partition, costs: CostTable, budget: Budget) -> list[Recipe]:
    """Every choice of a block a stage, checked one by one."""
    stages = [[b for b in partition.blocks if b.stage == stage] for stage in range(4)]
    found = []
    for blocks in itertools.product(*stages):
        recipe = Recipe(tuple(BlockRef(b.model, b.start, b.stop) for b in blocks))
        cost = costs.cost(recipe)
        fits = budget.min_params <= cost.params <= (
            budget.max_params or 1e18
        ) and budget.min_macs <= cost.macs <= (budget.max_macs or 1e18)
        if len({b.set for b in blocks}) == 4 and fits:
            found.append(recipe)
    return found


@pytest.mark.parametrize("budget", [Budget(), BUDGET, Budget(min_macs=5e7)])
def test_enumeration_is_brute_force(partition, costs, budget):
    space = Space(partition, costs, budget)
    expected = brute_force(space, partition, costs, budget)
    assert expected
    assert space.enumerate() == sorted(expected, key=lambda r: r.blocks)
    assert space.count() == len(expected)
    assert space.count(limit=3) == 3
    assert all(space.admits(recipe) for recipe in expected)


def test_cheapest_is_that_of_brute_force(partition, costs):
    space = Space(partition, costs, BUDGET)
    feasible = brute_force(space, partition, costs, BUDGET)
    for what in ("params", "macs"):
        least = min(getattr(costs.cost(r), what) for r in feasible)
        assert getattr(costs.cost(space.cheapest(what)), what) == least
    everything = brute_force(space, partition, costs, Budget())
    least = min(costs.cost(r).macs for r in everything)
    assert costs.cost(space.cheapest("macs", budget=False)).macs == least


def test_sample_is_uniform_without_repeats(partition, costs):
    space = Space(partition, costs, BUDGET)
    feasible = space.enumerate()
    everything = space.sample(10_000, seed=0)
    assert sorted(r.key for r in everything) == sorted(r.key for r in feasible)
    assert space.sample(5, seed=1) == space.sample(5, seed=1)
    drawn = Counter(r.key for seed in range(400) for r in space.sample(4, seed=seed))
    expected = 1600 / len(feasible)
    chi2 = sum((drawn[r.key] - expected) ** 2 / expected for r in feasible)
    assert chi2 < 2 * len(feasible)


def test_large_spaces_are_sampled_without_listing(partition, costs, monkeypatch):
    monkeypatch.setattr("zoo_search.reassembly.space._SMALL", 3)
    space = Space(partition, costs, BUDGET)
    drawn = space.sample(6, seed=0)
    assert len({r.key for r in drawn}) == 6
    assert all(space.admits(r) for r in drawn)
    monkeypatch.setattr("zoo_search.reassembly.space._TRIES", 0)  # the integer program alone
    drawn = space.sample(4, seed=0)
    assert len(drawn) == len({r.key for r in drawn}) > 1
    assert all(space.admits(r) for r in drawn)


def test_zoo_models_are_candidates_also_where_two_blocks_share_a_set(partition, costs, zoo):
    space = Space(partition, costs, Budget(max_params=10e6))
    names = {r.models[0] for r in space.zoo}
    assert names == {
        n for n in zoo if costs.cost(Recipe.whole(n, len(zoo[n].graph))).params <= 10e6
    }
    cnn = next(r for r in space.zoo if r.models == ("cnn",))
    assert not space.admits(cnn)  # Eq. 10 alone would leave it out
    assert cnn.key == Recipe.whole("cnn", len(zoo["cnn"].graph)).key
    assert Space(partition, costs, Budget(max_params=1)).zoo == []


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
    everything = brute_force(space, partition, costs, Budget())
    least = min(budget.excess(costs.cost(r)) for r in everything)
    assert budget.excess(costs.cost(space.nearest())) == pytest.approx(least, abs=0.003)
    with pytest.raises(UserError, match="nearest"):
        space.cheapest()


def test_a_partition_without_any_recipe_says_so(costs):
    block = {"model": "vit", "set": 0}
    blocks = [SimpleNamespace(start=i, stop=i + 1, stage=i, **block) for i in range(4)]
    space = Space(SimpleNamespace(k=4, blocks=blocks), costs, Budget())
    with pytest.raises(UserError, match="allows no recipe at all"):
        space.sample(1)


def test_budget_limits_are_inclusive():
    budget = Budget(max_params=10, max_macs=20, min_params=5, min_macs=0)
    assert budget.admits(Cost(10, 20))
    assert budget.admits(Cost(5, 0))
    assert not budget.admits(Cost(11, 20))
    assert not budget.admits(Cost(4, 20))
    assert budget.excess(Cost(15, 30)) == pytest.approx(1.0)
