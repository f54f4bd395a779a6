"""Drawing is uniform."""

import random
from collections import Counter

import pytest
from reassembly.space.every_recipe import every_recipe
from scipy.stats import chisquare

from zoo_search.costs import Budget
from zoo_search.networks import Recipe
from zoo_search.reassembly import Space


def listed(partition, costs, budget, monkeypatch) -> tuple[Space, list[Recipe]]:
    """A space that is sampled by drawing, however small it is."""
    monkeypatch.setattr("zoo_search.reassembly.space.space._SMALL", 0)
    space = Space(partition, costs, budget)
    return space, space.enumerate()


@pytest.mark.parametrize("limited", [False, True])
def test_drawing_is_uniform_over_what_is_feasible(partition, costs, limited, monkeypatch):
    everything = every_recipe(partition, costs)
    macs = sorted(cost.macs for cost in everything.values())
    params = sorted(cost.params for cost in everything.values())
    budget = Budget()
    if limited:
        budget = Budget(max_macs=macs[len(macs) // 2], max_params=params[len(params) // 2])
    space, feasible = listed(partition, costs, budget, monkeypatch)
    assert len(feasible) > 10
    assert limited == (len(feasible) < len(everything))
    rng = random.Random(0)
    drawn = Counter(space._draw(1, rng)[0].key for _ in range(100 * len(feasible)))
    assert set(drawn) == {recipe.key for recipe in feasible}
    assert chisquare(list(drawn.values())).pvalue > 0.001
    # One block a stage at random, as if sets did not matter, would not be uniform over sets.
    several = Counter(r.key for seed in range(200) for r in space.sample(3, seed))
    assert chisquare([several[r.key] for r in feasible]).pvalue > 0.001
