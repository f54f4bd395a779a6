"""Spaces of random partitions and budgets against every choice of a block a stage, one by one."""

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest
from reassembly.space.every_recipe import brute_force, every_recipe

from zoo_search.core.errors import UserError
from zoo_search.costs import Budget, Cost
from zoo_search.networks import Recipe
from zoo_search.partitions.result import Partition
from zoo_search.reassembly import Space
from zoo_search.testing.small import partition_of

PARTS = ("params", "macs", "latency", "memory")


def random_partition(zoo, rng: random.Random) -> Partition:
    """2 to 4 stages, cuts anywhere, sets in any order and sometimes twice in one model."""
    k = rng.randint(2, 4)
    blocks = []
    for name, model in zoo.items():
        inner = sorted(rng.sample(range(1, len(model.graph)), k - 1))
        cuts = [0, *inner, len(model.graph)]
        sets = rng.sample(range(k), k) if rng.random() < 0.7 else [rng.randrange(k)] * k
        blocks += [
            (name, a, b, stage, sets[stage])
            for stage, (a, b) in enumerate(itertools.pairwise(cuts))
        ]
    return partition_of(k, blocks)


def with_random_shifts(partition: Partition, zoo, rng: random.Random) -> Partition:
    """Some blocks may be moved, each end by a node; none is one of another stage."""
    own = {(b.model, b.start, b.stop) for b in partition.blocks}
    found = {}
    for block in partition.blocks:
        total = len(zoo[block.model].graph)
        starts = {block.start} if block.start == 0 else {block.start, block.start + 1}
        stops = {block.stop} if block.stop == total else {block.stop - 1, block.stop}
        for start, stop in itertools.product(sorted(starts), sorted(stops)):
            place = (block.model, start, stop)
            if start < stop and place not in own and rng.random() < 0.5:
                found.setdefault(place, replace(block, start=start, stop=stop))
    return replace(partition, shifts=tuple(found.values()))


def random_budget(everything: dict[Recipe, Cost], rng: random.Random) -> Budget:
    """Limits between the costs that there are, each with even odds; now and then a licence list."""

    def quantile(what: str, low: float, high: float) -> float:
        values = sorted(getattr(cost, what) for cost in everything.values())
        return values[int(rng.uniform(low, high) * (len(values) - 1))]

    def some(what: str) -> float | None:
        return quantile(what, 0.3, 1.0) if rng.random() < 0.5 else None

    return Budget(
        max_params=some("params"),
        max_macs=some("macs"),
        min_params=quantile("params", 0.0, 0.5) if rng.random() < 0.3 else 0,
        min_macs=quantile("macs", 0.0, 0.5) if rng.random() < 0.3 else 0,
        max_latency_ms=some("latency"),
        max_memory=some("memory"),
        licenses=("APACHE-2.0", "MIT") if rng.random() < 0.3 else None,
    )


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("seed", range(24))
def test_a_space_is_what_brute_force_finds(zoo, costs, seed, early):
    rng = random.Random(seed)
    partition = random_partition(zoo, rng)
    everything = every_recipe(partition, costs, early=early)
    if not everything:
        with pytest.raises(UserError, match="allows no recipe at all"):
            Space(partition, costs, Budget()).sample(1)
        return
    assert Space(partition, costs, Budget(), early=early).count().number == len(everything)
    budget = random_budget(everything, rng)
    feasible = brute_force(everything, budget)
    space = Space(partition, costs, budget, early=early)
    if not feasible:
        with pytest.raises(UserError, match=r"No recipe is within|allows no recipe"):
            space.cheapest()
        with pytest.raises(UserError):
            space.nearest_to(next(iter(everything)))
        assert space.enumerate() == []
        return
    assert space.enumerate() == sorted(feasible, key=lambda r: r.blocks)
    assert (space.count().number, space.count().exact) == (len(feasible), True)
    drawn = space.sample(10_000, seed)
    assert sorted(r.key for r in drawn) == sorted(r.key for r in feasible)
    for what in PARTS:
        least = min(getattr(cost, what) for cost in feasible.values())
        assert getattr(costs.cost(space.cheapest(what)), what) == least
    given = rng.choice(list(everything))
    found = space.nearest_to(given)

    def distance(recipe: Recipe) -> tuple[int, int]:
        changed = sum(a != b for a, b in itertools.zip_longest(recipe.blocks, given.blocks))
        return changed, costs.cost(recipe).macs

    assert distance(found) == min(map(distance, feasible))
    assert space._counts.total >= len(feasible)


def test_the_random_spaces_are_of_every_kind(zoo, costs):
    """The test above is worth nothing if its spaces are all empty, or never limited."""
    kinds = Counter()
    for seed in range(24):
        rng = random.Random(seed)
        everything = every_recipe(random_partition(zoo, rng), costs)
        if everything:
            budget = random_budget(everything, rng)
            share = len(brute_force(everything, budget)) / len(everything)
            kinds["none" if share == 0 else "all" if share == 1 else "some"] += 1
            kinds.update(limit.what for limit in budget.limits)
            kinds["licenses"] += budget.licenses is not None
        else:
            kinds["no recipe"] += 1
    assert min(kinds[kind] for kind in ("some", *PARTS, "licenses")) >= 3, kinds
