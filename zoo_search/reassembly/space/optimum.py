"""Recipes of a space that are best in some way, by the integer program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from zoo_search.core.errors import UserError
from zoo_search.costs.budget import MEASURES, Budget, What, units
from zoo_search.networks.recipe import Part, Recipe
from zoo_search.reassembly.space.choices import Choices, Scope, left_out_in_words
from zoo_search.reassembly.space.program import Linear, Program

_LEAST = {
    "macs": "cheapest recipe",
    "params": "one with the fewest parameters",
    "latency": "one with the lowest latency",
    "memory": "one with the least activation memory",
}


def solve(
    parts: Iterable[Choices],
    budget: Budget,
    aim: Callable[[Program, Choices], Linear],
    exact: Callable[[Recipe], int] | None = None,
) -> Recipe | None:
    """Return the recipe of these choices that has the least aim in a budget; None if there is none.

    Each partition has a program of its own. ``exact`` says what the aim of a recipe is, where the
    program's aim is a lower bound: a recipe that is worse than its bound is put aside and the
    program solved again, until no other can be better.
    """
    best: Recipe | None = None
    value = math.inf
    for part in parts:
        program = Program(part, budget)
        objective = aim(program, part)
        while (found := program.solve(objective)) is not None and found[1] < value:
            recipe, bound = found
            own = bound if exact is None else exact(recipe)
            if own < value:
                best, value = recipe, own
            if value <= bound:
                break
            program.forbid(recipe)
    return best


def least(choices: Scope, what: What, budget: Budget) -> Recipe | None:
    """Return the recipe that has the least of one cost in a budget; None if there is none."""
    costs = choices.costs.measuring([name for name in MEASURES if name == what])
    return solve(
        choices.parts,
        budget,
        lambda program, _: program.total(what),
        lambda recipe: units(costs.cost(recipe), what),
    )


def cheapest(choices: Scope, by: What = "macs", *, budget: bool = True) -> Recipe:
    """Return the cheapest recipe, within the budget or (``budget=False``) without one.

    Raises:
        UserError: If there is none.
    """
    recipe = least(choices, by, choices.budget if budget else Budget())
    if recipe is None:
        raise infeasible(choices)
    return recipe


def nearest(choices: Scope) -> Recipe:
    """Return the recipe that breaks the budget least: a feasible one if there is one.

    Raises:
        UserError: If the partition allows no recipe at all.
    """
    recipe = solve(choices.parts, Budget(), lambda program, _: program.excess(choices.budget))
    if recipe is None:
        raise infeasible(choices)
    return recipe


def nearest_to(choices: Scope, recipe: Recipe) -> Recipe:
    """Return the feasible recipe that changes the fewest blocks of ``recipe``.

    Among equals, the one of the fewest MACs. ``recipe`` has one block a stage, of any zoo, or fewer
    where recipes may end early: a stage that is left out or filled is one that is changed. Of
    several partitions those count that have so many stages.

    Raises:
        ValueError: If ``recipe`` has another number of blocks than recipes may have.
        UserError: If no recipe is feasible.
    """
    blocks = len(recipe.blocks)
    parts = [p for p in choices.parts if blocks == p.k or (p.early and blocks < p.k)]
    if not parts:
        stages = " or ".join(str(part.k) for part in choices.parts)
        raise ValueError(f"{recipe} has {blocks} blocks, not one a stage: {stages}")
    units = {part: part.units("macs") for part in choices.parts}
    most = max((max(own.values(), default=0) for own in units.values()), default=0)
    one_block = 2 * max(part.k for part in parts) * most + 1  # beats any MACs

    def aim(program: Program, part: Choices) -> Linear:
        wanted = part.filled(recipe.blocks)
        changed: dict[Part, int] = {
            block: int(block != wanted[stage])
            for stage, options in enumerate(part.stages)
            for block in options
        }
        return one_block * program.weighted(changed) + program.total("macs")

    found = solve(parts, choices.budget, aim)
    if found is None:
        raise infeasible(choices)
    return found


def infeasible(choices: Scope) -> UserError:
    """Return the error that says why nothing is feasible and what would be."""
    cheapest, fewest = least(choices, "macs", Budget()), least(choices, "params", Budget())
    if cheapest is None or fewest is None:
        ks = " or ".join(str(part.k) for part in choices.parts)
        without = ""
        if choices.left_out:
            without = (
                f" The models {left_out_in_words(choices.left_out)} are left out by "
                "'budget.licenses'; allow more licences, or state that of a model under 'license:' "
                "in its zoo entry."
            )
        return UserError(
            "The partition allows no recipe at all: no choice of one block for each of the "
            f"{ks} stages takes one block from each of the {ks} sets.{without} Partition again "
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
