"""Recipes of a space that are best in some way, by the integer program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from zoo_search.core.errors import UserError
from zoo_search.costs.budget import MEASURES, Budget, What, units
from zoo_search.networks.recipe import Part, Recipe
from zoo_search.reassembly.space.choices import Choices, left_out_in_words
from zoo_search.reassembly.space.program import Linear, Program

_LEAST = {
    "macs": "cheapest recipe",
    "params": "one with the fewest parameters",
    "latency": "one with the lowest latency",
    "memory": "one with the least activation memory",
}


def solve(
    choices: Choices,
    budget: Budget,
    aim: Callable[[Program], Linear],
    exact: Callable[[Recipe], int] | None = None,
) -> Recipe | None:
    """Return the recipe of these choices that has the least aim in a budget; None if there is none.

    ``exact`` says what the aim of a recipe is, where the program's aim is a lower bound: a recipe
    that is worse than its bound is put aside and the program solved again, until no other can be
    better.
    """
    program = Program(choices, budget)
    objective, best, value = aim(program), None, math.inf
    while (found := program.solve(objective)) is not None and found[1] < value:
        recipe, bound = found
        own = bound if exact is None else exact(recipe)
        if own < value:
            best, value = recipe, own
        if value <= bound:
            break
        program.forbid(recipe)
    return best


def least(choices: Choices, what: What, budget: Budget) -> Recipe | None:
    """Return the recipe that has the least of one cost in a budget; None if there is none."""
    costs = choices.costs.measuring([name for name in MEASURES if name == what])
    return solve(
        choices, budget, lambda p: p.total(what), lambda recipe: units(costs.cost(recipe), what)
    )


def cheapest(choices: Choices, by: What = "macs", *, budget: bool = True) -> Recipe:
    """Return the cheapest recipe, within the budget or (``budget=False``) without one.

    Raises:
        UserError: If there is none.
    """
    recipe = least(choices, by, choices.budget if budget else Budget())
    if recipe is None:
        raise infeasible(choices)
    return recipe


def nearest(choices: Choices) -> Recipe:
    """Return the recipe that breaks the budget least: a feasible one if there is one.

    Raises:
        UserError: If the partition allows no recipe at all.
    """
    recipe = solve(choices, Budget(), lambda program: program.excess(choices.budget))
    if recipe is None:
        raise infeasible(choices)
    return recipe


def nearest_to(choices: Choices, recipe: Recipe) -> Recipe:
    """Return the feasible recipe that changes the fewest blocks of ``recipe``.

    Among equals, the one of the fewest MACs. ``recipe`` has one block a stage, of any zoo.

    Raises:
        ValueError: If ``recipe`` has not one block a stage.
        UserError: If no recipe is feasible.
    """
    if len(recipe.blocks) != choices.k:
        raise ValueError(f"{recipe} has {len(recipe.blocks)} blocks, not one a stage: {choices.k}")
    wanted = dict(zip(recipe.blocks, range(choices.k), strict=True))
    macs = [choices.costs.units_of_block(block, "macs", last=True) for block in choices.sets]
    joints = [choices.units("macs")[pair] for pair in itertools.chain(*choices.joints)]
    one_block = choices.k * (max(macs, default=0) + max(joints, default=0)) + 1  # beats any MACs
    changed: dict[Part, int] = {
        block: int(wanted.get(block) != stage)
        for stage, options in enumerate(choices.stages)
        for block in options
    }
    found = solve(
        choices, choices.budget, lambda p: one_block * p.weighted(changed) + p.total("macs")
    )
    if found is None:
        raise infeasible(choices)
    return found


def infeasible(choices: Choices) -> UserError:
    """Return the error that says why nothing is feasible and what would be."""
    cheapest, fewest = least(choices, "macs", Budget()), least(choices, "params", Budget())
    if cheapest is None or fewest is None:
        k, without = choices.k, ""
        if choices.left_out:
            without = (
                f" The models {left_out_in_words(choices.left_out)} are left out by "
                "'budget.licenses'; allow more licences, or state that of a model under 'license:' "
                "in its zoo entry."
            )
        return UserError(
            "The partition allows no recipe at all: no choice of one block for each of the "
            f"{k} stages takes one block from each of the {k} sets.{without} Partition again "
            "with another k, eps or seed, or with 'one_per_set: true', which always allows some."
        )
    named = [(_LEAST["macs"], cheapest), (_LEAST["params"], fewest)]
    for limit in choices.budget.limits:
        if limit.what in MEASURES and limit.high is not None:
            recipe = least(choices, limit.what, Budget())
            if recipe is not None and units(choices.cost(recipe), limit.what) > limit.high:
                named.append((_LEAST[limit.what], recipe))
    named.append(("one nearest to it", nearest(choices)))
    said: dict[str, str] = {}  # each recipe once, under the first of its names
    for name, recipe in named:
        said.setdefault(recipe.key, f"the {name} is {recipe}: {choices.cost(recipe)}")
    told = "; ".join(said.values())
    return UserError(
        f"No recipe is within the budget ({choices.budget}). {told[:1].upper()}{told[1:]}. "
        "Widen 'budget:' in the run file (MACs are multiply-adds for one image)."
    )
