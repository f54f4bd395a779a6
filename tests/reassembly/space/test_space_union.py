"""Spaces of several partitions against all their recipes, one by one."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from reassembly.space.every_recipe import brute_force, every_network
from reassembly.space.test_space_random import (
    random_budget,
    random_partition,
    with_random_shifts,
)
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


@pytest.mark.parametrize("taps", ["last", "blocks"])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("seed", range(18))
def test_a_union_is_what_brute_force_finds(zoo, costs, evenly, seed, early, taps):
    """Of partitions cut anywhere, and evenly; and of one or two whose blocks may be moved.

    Where the head reads every block, networks that differ in their cuts alone are not the same.
    """
    rng = random.Random(seed)
    if seed >= 12:
        few = {name: zoo[name] for name in ("vit", "mlp", "swin")}
        partitions = [
            with_random_shifts(random_partition(few, rng), zoo, rng) for _ in range(1 + seed % 2)
        ]
    elif seed % 3:
        partitions = [random_partition(zoo, rng) for _ in range(rng.randint(2, 3))]
    else:
        partitions = evenly[: 2 + seed % 2]
    networks = every_network(partitions, costs, early=early, taps=taps)
    free = make_space(partitions, costs, Budget(), early=early, taps=taps)
    assert free.count().number == len(networks)
    everything = {r: cost for recipes in networks.values() for r, cost in recipes.items()}
    budget = random_budget(everything, rng)
    feasible = brute_force(everything, budget)
    keys = {recipe.key for recipe in feasible}
    space = make_space(partitions, costs, budget, early=early, taps=taps)
    assert isinstance(space, SpaceUnion) == (len(partitions) > 1)
    if not feasible:
        with pytest.raises(UserError, match=r"No recipe is within|allows no recipe"):
            space.cheapest()
        assert space.enumerate() == []
        return
    listed = space.enumerate()
    assert set(listed) <= set(feasible)
    assert sorted(recipe.key for recipe in listed) == sorted(keys)
    assert (space.count().number, space.count().exact) == (len(keys), True)
    drawn = space.sample(10_000, seed)
    assert sorted(recipe.key for recipe in drawn) == sorted(keys)
    assert all(space.admits(recipe) for recipe in drawn)
    for what in PARTS:
        least = min(getattr(cost, what) for cost in feasible.values())
        assert getattr(costs.cost(space.cheapest(what)), what) == least
    assert space.most >= len(keys)


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


def test_a_network_that_can_be_cut_in_two_ways_is_one(zoo, costs):
    """Two blocks of one model with the cut between them moved are still the same network."""
    own = even_partition(graphs_of(zoo), 2)
    moved = [
        replace(block, **{"stop" if block.stage == 0 else "start": cut})
        for block in own.blocks
        for cut in [(block.stop if block.stage == 0 else block.start) - 1]
    ]
    space = Space(replace(own, shifts=tuple(moved)), costs, Budget())
    # Cuts of two models at a joint: 2 × 2 for each pair of different models, and one whole model.
    pairs = len(zoo) * (len(zoo) - 1)
    assert space.count().number == len(space.enumerate()) == 4 * pairs + len(zoo)
    assert len(space.zoo) == len(zoo)
    whole = space.zoo[0]
    assert len(space.ways_of(whole)) == 2
    assert whole.key not in {r.key for r in space.enumerate() if len(r.models) > 1}
    early = Space(replace(own, shifts=tuple(moved)), costs, Budget(), early=True)
    assert len(early.prefixes) == 2 * len(zoo)
    assert all(len(r.models) == 2 for r in early.enumerate() if len(r.runs) > 1)
    singles = {r.key for r in early.enumerate() if len(r.runs) == 1}
    assert singles == {r.key for r in (*early.zoo, *early.prefixes)}
