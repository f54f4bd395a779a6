"""The samplers against brute force over spaces that can be listed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from zoo_search.errors import UserError
from zoo_search.reassembly import Budget, CostTable, Recipe, Space
from zoo_search.reassembly.samplers import SAMPLERS, make_sampler
from zoo_search.reassembly.samplers.cpsat import CpSatSampler
from zoo_search.reassembly.samplers.repair import Repair
from zoo_search.reassembly.samplers.surrogate import Surrogate, Weights

LIMITS = {"max_params": 8e6, "max_macs": 6e7}


@pytest.fixture(scope="module")
def space(zoo, free_partition) -> Space:
    """Any block at its stage, within a budget: some 100 recipes."""
    space = Space(free_partition, CostTable(zoo, 4), Budget(**LIMITS))
    assert 100 < len(space.enumerate()) < 256
    return space


@pytest.fixture(scope="module")
def wide(zoo, free_partition) -> Space:
    """The same without a budget: 256 recipes."""
    return Space(free_partition, CostTable(zoo, 4), Budget())


@pytest.fixture(scope="module")
def scores(wide) -> dict[str, float]:
    """A sum over blocks and pairs, with noise."""
    rng = np.random.default_rng(5)
    weight: dict[object, float] = {}

    def of(item: object, size: float) -> float:
        return weight.setdefault(item, size * rng.normal())

    return {
        r.key: sum(of(b, 1.0) for b in r.blocks)
        + sum(of(p, 0.5) for p in itertools.pairwise(r.blocks))
        + 0.1 * rng.normal()
        for r in wide.enumerate()
    }


def propose(name: str, space: Space, scores: dict[str, float], seed: int, most: int):
    sampler, taken = make_sampler(name, space, most, seed), {}
    while len(taken) < most and (recipe := sampler.next(taken)) is not None:
        assert recipe.key not in taken
        assert space.admits(recipe)
        taken[recipe.key] = recipe
        sampler.tell(recipe, scores[recipe.key], space.cost(recipe))
    return list(taken.values())


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_seed_same_recipes_and_never_one_twice(space, scores, name):
    first = propose(name, space, scores, 3, 45)
    assert len(first) == 45
    assert propose(name, space, scores, 3, 45) == first
    assert propose(name, space, scores, 4, 45) != first


@pytest.mark.parametrize("name", ["tpe", "nsga2", "cpsat"])
def test_late_proposals_score_higher_than_a_uniform_sample(wide, scores, name):
    everything = np.array(list(scores.values()))
    late = [scores[r.key] for seed in range(4) for r in propose(name, wide, scores, seed, 50)[25:]]
    error = everything.std() / math.sqrt(len(late))
    assert np.mean(late) > everything.mean() + 3 * error


def test_cpsat_finds_the_best_of_a_surrogate_that_fits(space, scores):
    best = max(space.enumerate(), key=lambda r: scores[r.key])
    for seed in range(3):
        assert best in propose("cpsat", space, scores, seed, 50)


def test_nsga2_covers_more_of_score_against_cost_than_a_uniform_sample(wide, scores):
    """Area that the front dominates, from the least score and the greatest cost."""
    floor = min(scores.values())
    ceiling = max(wide.cost(r).macs for r in wide.enumerate())

    def area(recipes: list[Recipe]) -> float:
        total, best = 0.0, floor
        points = sorted((wide.cost(r).macs, scores[r.key]) for r in recipes)
        for macs, score in points:
            if score > best:
                total += (score - best) * (ceiling - macs)
                best = score
        return total

    found = {
        name: np.mean([area(propose(name, wide, scores, seed, 80)) for seed in range(10)])
        for name in ("random", "nsga2")
    }
    assert found["random"] < found["nsga2"] <= area(wide.enumerate())


def test_the_program_maximises_the_surrogate(space, scores):
    """Proposal 13 takes the mean: no recipe that is free is worth more, by brute force."""
    sampler, taken = CpSatSampler(space, 50, 0), {}
    for recipe in space.sample(13, 7):
        taken[recipe.key] = recipe
        sampler.tell(recipe, scores[recipe.key], space.cost(recipe))
    found = sampler.next(taken)
    assert found is not None
    told = list(taken.values())
    first = Surrogate(space.stages, [r.blocks for r in told[:12]],
                      [scores[r.key] for r in told[:12]])  # fmt: skip
    weights = Surrogate(
        space.stages, [r.blocks for r in told], [scores[r.key] for r in told], first.penalty
    ).mean()
    free = [r for r in space.enumerate() if r.key not in taken]
    assert worth(weights, found) == pytest.approx(max(worth(weights, r) for r in free), abs=1e-4)


def worth(weights: Weights, recipe: Recipe) -> float:
    pairs = itertools.pairwise(recipe.blocks)
    return sum(weights.blocks[b] for b in recipe.blocks) + sum(weights.pairs[p] for p in pairs)


def test_repair_changes_as_few_blocks_as_can_be(zoo, partition):
    """The space of few recipes, two of whose models have blocks of one set."""
    space = Space(partition, CostTable(zoo, 4), Budget(**LIMITS))
    feasible = space.enumerate()
    repair, rng, taken = Repair(space), np.random.default_rng(0), {}
    for round_ in range(12):
        blocks = [options[rng.integers(len(options))] for options in space.stages]
        found = repair.nearest(blocks, taken, round_)
        free = [r for r in feasible if r.key not in taken]
        assert found in free
        changed = [sum(a != b for a, b in zip(r.blocks, blocks, strict=True)) for r in free]
        assert sum(a != b for a, b in zip(found.blocks, blocks, strict=True)) == min(changed)
        taken[found.key] = found
    assert repair.nearest(blocks, {r.key: r for r in feasible}, 0) is None


def test_unknown_names_and_infeasible_budgets_are_errors(zoo, space, free_partition):
    with pytest.raises(UserError, match="Did you mean 'nsga2'"):
        make_sampler("nsga", space, 5, 0)
    tight = Space(free_partition, CostTable(zoo, 4), Budget(max_params=1e3))
    with pytest.raises(UserError, match="No recipe is within the budget"):
        make_sampler("cpsat", tight, 5, 0)
