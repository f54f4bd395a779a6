"""Counts against a list of all recipes."""

from reassembly.space.every_recipe import every_recipe

from zoo_search.costs import Budget
from zoo_search.reassembly import Space
from zoo_search.testing.small import partition_of


def test_counts_are_exact_without_limits_and_close_with_them(partition, costs):
    everything = every_recipe(partition, costs)
    free = Space(partition, costs, Budget())
    assert free._counts.total == len(everything)
    assert sorted(free._counts.all()) == sorted(recipe.runs for recipe in everything)
    assert str(free.count()) == str(len(everything))
    macs = sorted(cost.macs for cost in everything.values())
    tight = Space(partition, costs, Budget(max_macs=macs[len(macs) // 4]))
    feasible = set(tight.enumerate())
    counted = {tight.recipe_of(runs) for runs in tight._counts.all()}
    assert feasible <= counted
    assert len(counted) <= 1.1 * len(feasible)
    assert tight._counts.total == len(counted)
    assert str(tight.count(limit=3)) == "at least 3"
    assert tight.count(limit=3).number == 3


def test_a_space_too_large_to_list_is_counted_and_drawn_from(costs, zoo):
    """Every block that starts at one of the first four cuts of its model; one set a stage."""
    blocks = [
        (name, start, stop, start, start)
        for name, model in zoo.items()
        for start in range(min(len(model.graph), 4))
        for stop in range(start + 1, len(model.graph) + 1)
    ]
    partition = partition_of(4, blocks)
    sizes = [sum(b.stage == stage for b in partition.blocks) for stage in range(4)]
    free = Space(partition, costs, Budget())
    assert free.count(limit=None).number == sizes[0] * sizes[1] * sizes[2] * sizes[3] > 10**5
    budget = Budget(max_params=2.5e6, max_macs=2e7, max_memory=8e5)
    space = Space(partition, costs, budget)
    drawn = space.sample(50, seed=0)
    assert len({r.key for r in drawn}) == 50
    assert all(budget.admits(costs.cost(r)) for r in drawn)
    assert drawn == Space(partition, costs, budget).sample(50, seed=0)
