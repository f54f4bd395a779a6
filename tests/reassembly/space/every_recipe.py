"""All recipes of a partition, or of several."""

import itertools

from zoo_search.costs import Budget, Cost, CostTable
from zoo_search.networks import BlockRef, Recipe


def every_recipe(
    partition, costs: CostTable, *, early: bool = False, taps: str = "last"
) -> dict[Recipe, Cost]:
    """Every choice of one block a stage and a set, with its cost; of the first stages, too.

    Where blocks may be moved, one model's blocks in a row are neighbours.
    """
    blocks = [*partition.blocks, *partition.shifts]
    stages = [[b for b in blocks if b.stage == s] for s in range(partition.k)]
    found = {}
    for stop in range(1 if early else partition.k, partition.k + 1):
        for blocks in itertools.product(*stages[:stop]):
            skips = any(
                a.model == b.model and a.stop != b.start for a, b in itertools.pairwise(blocks)
            )
            if len({b.set for b in blocks}) == stop and not (partition.shifts and skips):
                refs = tuple(BlockRef(b.model, b.start, b.stop) for b in blocks)
                recipe = Recipe(refs, "target", taps)
                found[recipe] = costs.cost(recipe)
    return found


def every_network(
    partitions, costs: CostTable, *, early: bool = False, taps: str = "last"
) -> dict[str, dict[Recipe, Cost]]:
    """The recipes of several partitions by the key of the network that they are."""
    found: dict[str, dict[Recipe, Cost]] = {}
    for partition in partitions:
        for recipe, cost in every_recipe(partition, costs, early=early, taps=taps).items():
            found.setdefault(recipe.key, {})[recipe] = cost
    return found


def brute_force(everything: dict[Recipe, Cost], budget: Budget) -> dict[Recipe, Cost]:
    """Those of :func:`every_recipe` that keep to a budget, checked one by one."""

    def fits(recipe: Recipe, cost: Cost) -> bool:
        if budget.licenses is not None and "mlp" in recipe.models:
            return False
        pairs = (
            (cost.params, budget.max_params), (cost.macs, budget.max_macs),
            (cost.latency, budget.max_latency_ms), (cost.memory, budget.max_memory),
        )  # fmt: skip
        return all(high is None or value <= high for value, high in pairs) and (
            cost.params >= budget.min_params and cost.macs >= budget.min_macs
        )

    return {recipe: cost for recipe, cost in everything.items() if fits(recipe, cost)}
