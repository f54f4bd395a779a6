"""Recipes that end early."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from reassembly.space.every_recipe import brute_force, every_recipe
from scipy.stats import chisquare

from zoo_search.costs import Budget
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.reassembly import Space
from zoo_search.testing.small import partition_of

PARTS = ("params", "macs", "latency", "memory")


def test_the_head_sits_on_the_last_block_there_is(partition, costs, zoo):
    """A limit between the cost with and without that head decides."""
    everything = every_recipe(partition, costs, early=True)
    recipe = min((r for r in everything if len(r.blocks) == 2), key=lambda r: everything[r].macs)
    cost = everything[recipe]
    net = assemble(recipe, zoo, "random", num_classes=5)
    assert sum(p.numel() for p in net.parameters()) == cost.params
    budget = Budget(max_params=cost.params, max_macs=cost.macs)
    assert recipe in Space(partition, costs, budget, early=True).enumerate()
    tighter = Budget(max_params=cost.params - 1, max_macs=cost.macs)
    assert recipe not in Space(partition, costs, tighter, early=True).enumerate()


@pytest.mark.parametrize("what", PARTS)
def test_a_cost_of_its_choices_is_that_of_the_recipe(partition, costs, what):
    """Blocks, joints and ends add up; of memory they are no more than the peak."""
    space = Space(partition, costs, Budget(), early=True)
    units = space.units(what)
    for recipe in space.enumerate():
        blocks = space.filled(recipe.blocks)
        parts = [units[part] for part in (*blocks, *itertools.pairwise(blocks))]
        value = getattr(costs.cost(recipe), what)
        if what == "memory":
            assert max(parts) <= value
        else:
            assert sum(parts) == round(value * (1e6 if what == "latency" else 1))


def test_the_first_blocks_of_each_model_are_members(partition, costs, zoo):
    space = Space(partition, costs, Budget(), early=True)
    starts = {r.key: r for r in space.prefixes}
    assert len(starts) == 3 * len(zoo)
    assert all(len(r.runs) == 1 and r.blocks[0].start == 0 for r in starts.values())
    # Two blocks of ``cnn`` share a set, which keeps them out of other recipes alone.
    assert sum(r.models == ("cnn",) and len(r.blocks) > 1 for r in starts.values()) == 2
    cheap = Space(partition, costs, Budget(max_macs=5e6), early=True)
    assert {r.key for r in cheap.prefixes} == {
        key for key, r in starts.items() if costs.cost(r).macs <= 5e6
    }
    assert Space(partition, costs, Budget()).prefixes == []


@pytest.mark.parametrize("limited", [False, True])
def test_drawing_is_uniform_over_recipes_of_any_length(partition, costs, limited, monkeypatch):
    monkeypatch.setattr("zoo_search.reassembly.space.space._SMALL", 0)
    everything = every_recipe(partition, costs, early=True)
    macs = sorted(cost.macs for cost in everything.values())
    budget = Budget(max_macs=macs[len(macs) // 2]) if limited else Budget()
    space, feasible = Space(partition, costs, budget, early=True), brute_force(everything, budget)
    lengths = Counter(len(recipe.blocks) for recipe in feasible)
    assert len(lengths) == 4
    rng = random.Random(0)
    drawn = Counter(space._draw(1, rng)[0].key for _ in range(40 * len(feasible)))
    assert set(drawn) == {recipe.key for recipe in feasible}
    assert chisquare(list(drawn.values())).pvalue > 0.001


def test_nothing_follows_an_end(partition, costs):
    space = Space(partition, costs, Budget(), early=True)
    end = BlockRef.end(2)
    assert end in space.stages[2]
    assert end not in space.stages[0]
    assert all(after.is_end for before, after in space.joints[2] if before == end)
    recipe = space.recipe(space.filled(space.stages[0][:1]))
    assert recipe == Recipe((space.stages[0][0],))


def test_a_single_stage_has_no_early_end(costs, zoo):
    whole = partition_of(1, [(name, 0, len(m.graph), 0, 0) for name, m in zoo.items()])
    space = Space(whole, costs, Budget(), early=True)
    assert {r.key for r in space.enumerate()} == {r.key for r in space.zoo}
