"""A space against brute force."""

from collections import Counter

import pytest
from reassembly.space.every_recipe import brute_force, every_recipe

from zoo_search.costs import Budget
from zoo_search.networks import Recipe
from zoo_search.reassembly import Space

BUDGET = Budget(max_params=5.0e6, max_macs=6e7, min_params=1e6)


@pytest.mark.parametrize("budget", [Budget(), BUDGET, Budget(min_macs=5e7)])
def test_enumeration_is_brute_force(partition, costs, budget):
    space = Space(partition, costs, budget)
    expected = brute_force(every_recipe(partition, costs), budget)
    assert expected
    assert space.enumerate() == sorted(expected, key=lambda r: r.blocks)
    assert space.count().number == len(expected)
    assert space.count(limit=3).number == 3
    assert all(space.admits(recipe) for recipe in expected)


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
    monkeypatch.setattr("zoo_search.reassembly.space.space._SMALL", 3)
    space = Space(partition, costs, BUDGET)
    drawn = space.sample(6, seed=0)
    assert len({r.key for r in drawn}) == 6
    assert all(space.admits(r) for r in drawn)
    monkeypatch.setattr("zoo_search.reassembly.space.space._TRIES", 0)  # the integer program alone
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
