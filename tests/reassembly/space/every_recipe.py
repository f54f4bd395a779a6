"""All recipes of a partition."""

import itertools

from zoo_search.costs import Cost, CostTable
from zoo_search.networks import BlockRef, Recipe


def every_recipe(partition, costs: CostTable) -> dict[Recipe, Cost]:
    """Every choice of one block a stage and a set, with its cost."""
    stages = [[b for b in partition.blocks if b.stage == s] for s in range(partition.k)]
    found = {}
    for blocks in itertools.product(*stages):
        if len({b.set for b in blocks}) == partition.k:
            recipe = Recipe(tuple(BlockRef(b.model, b.start, b.stop) for b in blocks))
            found[recipe] = costs.cost(recipe)
    return found
