"""The surrogate and the program against brute force."""

from __future__ import annotations

import itertools

import pytest
from reassembly.samplers.proposing import propose

from zoo_search.networks import Recipe
from zoo_search.networks.recipe import Part
from zoo_search.reassembly.samplers.cpsat import CpSatSampler
from zoo_search.reassembly.samplers.surrogate import Surrogate


def test_cpsat_finds_the_best_of_a_surrogate_that_fits(space, scores):
    best = max(space.enumerate(), key=lambda r: scores[r.key])
    for seed in range(3):
        assert best in propose("cpsat", space, scores, seed, 50)


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


def worth(weights: dict[Part, float], recipe: Recipe) -> float:
    pairs = itertools.pairwise(recipe.blocks)
    return sum(weights[part] for part in (*recipe.blocks, *pairs))
