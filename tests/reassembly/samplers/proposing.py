"""A sampler asked and told."""

from __future__ import annotations

from zoo_search.reassembly import Space
from zoo_search.reassembly.samplers import SAMPLERS


def propose(name: str, space: Space, scores: dict[str, float], seed: int, most: int):
    sampler, taken = SAMPLERS.get(name, "test")(space, most, seed), {}
    while len(taken) < most and (recipe := sampler.next(taken)) is not None:
        assert recipe.key not in taken
        assert space.admits(recipe)
        taken[recipe.key] = recipe
        sampler.tell(recipe, scores[recipe.key], space.cost(recipe))
    return list(taken.values())
