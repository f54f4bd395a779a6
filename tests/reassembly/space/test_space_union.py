"""Spaces of several partitions against all their recipes, one by one."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from reassembly.space.every_recipe import brute_force, every_network
from reassembly.space.test_space_random import random_budget, random_partition
from scipy.stats import chisquare

from zoo_search.core.errors import UserError
from zoo_search.costs import Budget
from zoo_search.networks import Recipe
from zoo_search.reassembly import Space
from zoo_search.reassembly.space import SpaceUnion, make_space
from zoo_search.testing.small import even_partition

PARTS = ("params", "macs", "latency", "memory")


def graphs_of(zoo):
    return {name: model.graph for name, model in zoo.items()}


@pytest.fixture(scope="module")
def evenly(zoo):
    """Two, four and three blocks of each model: every other cut of four is one of two."""
    return [even_partition(graphs_of(zoo), k) for k in (2, 4, 3)]


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_a_union_is_what_brute_force_finds(zoo, costs, evenly, seed, early):
    rng = random.Random(seed)
    if seed % 3:
        partitions = [random_partition(zoo, rng) for _ in range(rng.randint(2, 3))]
    else:
        partitions = evenly[: 2 + seed % 2]
    networks = every_network(partitions, costs, early=early)
    assert make_space(partitions, costs, Budget(), early=early).count().number == len(networks)
    first = {key: next(iter(recipes.items())) for key, recipes in networks.items()}
    budget = random_budget(dict(first.values()), rng)
    feasible = brute_force(dict(first.values()), budget)
    space = make_space(partitions, costs, budget, early=early)
    assert isinstance(space, SpaceUnion)
    if not feasible:
        with pytest.raises(UserError, match=r"No recipe is within|allows no recipe"):
            space.cheapest()
        assert space.enumerate() == []
        return
    if budget.max_latency_ms is None:  # which depends on the blocks that a network is cut into
        assert space.enumerate() == sorted(feasible, key=lambda r: r.blocks)
    assert (space.count().number, space.count().exact) == (len(space.enumerate()), True)
    assert {r.key for r in space.enumerate()} >= {r.key for r in feasible}
    drawn = space.sample(10_000, seed)
    assert {r.key for r in drawn} == {r.key for r in feasible}
    assert len(drawn) == len(feasible)
    assert all(space.admits(recipe) for recipe in drawn)
    for what in ("params", "macs", "memory"):
        least = min(getattr(cost, what) for cost in feasible.values())
        assert getattr(costs.cost(space.cheapest(what)), what) <= least
    assert space._counts.total >= len(feasible)


def test_a_network_of_two_partitions_is_one(zoo, costs, evenly):
    both = make_space(evenly[:2], costs, Budget())
    alone = [Space(partition, costs, Budget()) for partition in evenly[:2]]
    keys = [{recipe.key for recipe in space.enumerate()} for space in alone]
    assert len(keys[0] & keys[1]) > len(zoo)
    assert both.count().number == len(keys[0] | keys[1]) < len(keys[0]) + len(keys[1])
    assert len(both.zoo) == len(zoo)
    assert {r.key for r in both.zoo} == {Recipe.whole(n, len(m.graph)).key for n, m in zoo.items()}
    early = make_space(evenly[:2], costs, Budget(), early=True)
    assert len({r.key for r in early.prefixes}) == len(early.prefixes) == 3 * len(zoo)


def test_drawing_is_uniform_over_networks(costs, evenly, monkeypatch):
    """Not over choices of blocks, by which networks of two partitions would come twice as often."""
    monkeypatch.setattr("zoo_search.reassembly.space.space._SMALL", 0)
    networks = every_network(evenly[:2], costs)
    macs = sorted(next(iter(each.values())).macs for each in networks.values())
    space = make_space(evenly[:2], costs, Budget(max_macs=macs[len(macs) // 3]))
    feasible = [k for k, each in networks.items() if all(map(space.within, each))]
    rng = random.Random(0)
    drawn = Counter(space._draw(1, rng)[0].key for _ in range(40 * len(feasible)))
    assert set(drawn) == set(feasible)
    assert chisquare(list(drawn.values())).pvalue > 0.001


def test_the_nearest_recipe_has_the_stages_that_are_asked_for(costs, evenly):
    space = make_space(evenly, costs, Budget())
    for part in space.parts:
        given = part.recipe([stage[-1] for stage in part.stages])
        assert space.nearest_to(given).key == given.key
    with pytest.raises(ValueError, match="not one a stage: 2 or 4 or 3"):
        space.nearest_to(part.recipe(part.stages[0][:1]))


def test_what_no_partition_allows_is_told_for_all(costs, evenly):
    with pytest.raises(UserError, match="No recipe is within the budget") as caught:
        make_space(evenly, costs, Budget(max_macs=1)).sample(1)
    cheapest = make_space(evenly, costs, Budget()).cheapest()
    assert str(cheapest) in str(caught.value)
