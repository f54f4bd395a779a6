"""Recipes of a space that are best in some way, by the integer program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo_search.errors import UserError
from zoo_search.reassembly.budget import MEASURES, Budget, What, units
from zoo_search.reassembly.infeasible import no_recipe, nothing_within
from zoo_search.reassembly.program import Program
from zoo_search.reassembly.recipe import Recipe

if TYPE_CHECKING:
    from zoo_search.reassembly.space import Space

__all__ = ["infeasible", "least", "nearest_to", "solve"]


def solve(
    space: Space,
    budget: Budget,
    aim: Callable[[Program], Any],
    exact: Callable[[Recipe], int] | None = None,
) -> Recipe | None:
    """Return the recipe of a space that has the least aim in a budget; None if there is none.

    ``exact`` says what the aim of a recipe is, where the program's aim is a lower bound: a recipe
    that is worse than its bound is put aside and the program solved again, until no other can be
    better.
    """
    program = Program(space, budget)
    objective, best, value = aim(program), None, math.inf
    while (found := program.solve(objective)) is not None and found[1] < value:
        blocks, bound = found
        recipe = space.recipe(blocks)
        own = bound if exact is None else exact(recipe)
        if own < value:
            best, value = recipe, own
        if value <= bound:
            break
        program.forbid(blocks)
    return best


def least(space: Space, what: What, budget: Budget) -> Recipe | None:
    """Return the recipe that has the least of one cost in a budget; None if there is none."""
    costs = space.costs.measuring([name for name in MEASURES if name == what])
    return solve(
        space, budget, lambda p: p.total(what), lambda recipe: units(costs.cost(recipe), what)
    )


def nearest_to(space: Space, recipe: Recipe) -> Recipe | None:
    """Return the feasible recipe with the fewest changed blocks, then the fewest MACs.

    Raises:
        ValueError: If ``recipe`` has not one block a stage.
    """
    if len(recipe.blocks) != space.k:
        raise ValueError(f"{recipe} has {len(recipe.blocks)} blocks, not one a stage: {space.k}")
    wanted = dict(zip(recipe.blocks, range(space.k), strict=True))
    costs, pairs = space.costs, itertools.pairwise(space.stages)
    macs = [costs.units_of_block(block, "macs", last=True) for block in space.sets]
    joints = [
        costs.units_of_joint(before, after, "macs")
        for befores, afters in pairs
        for before, after in itertools.product(befores, afters)
    ]
    one_block = space.k * (max(macs, default=0) + max(joints, default=0)) + 1  # beats any MACs
    changed = {
        block: int(wanted.get(block) != stage)
        for stage, options in enumerate(space.stages)
        for block in options
    }
    return solve(space, space.budget, lambda p: one_block * p.weighted(changed) + p.total("macs"))


def infeasible(space: Space) -> UserError:
    """Return the error that says why nothing is feasible and what would be."""
    cheapest, fewest = least(space, "macs", Budget()), least(space, "params", Budget())
    if cheapest is None or fewest is None:
        return no_recipe(space.k, space.left_out)
    named: list[tuple[What, Recipe]] = [("macs", cheapest), ("params", fewest)]
    for limit in space.budget.limits:
        if limit.what in MEASURES and limit.high is not None:
            recipe = least(space, limit.what, Budget())
            if recipe is not None and units(space.cost(recipe), limit.what) > limit.high:
                named.append((limit.what, recipe))
    return nothing_within(space.budget, named, space.nearest(), space.cost)
