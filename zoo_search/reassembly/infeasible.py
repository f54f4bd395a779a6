"""What is said where no recipe is feasible: why, and what the cheapest would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zoo_search.errors import UserError, nearest
from zoo_search.reassembly.budget import Budget, Cost
from zoo_search.reassembly.recipe import Recipe

__all__ = ["left_out_in_words", "no_licence", "no_recipe", "nothing_within"]

_LEAST = {
    "macs": "cheapest recipe",
    "params": "one with the fewest parameters",
    "latency": "one with the lowest latency",
    "memory": "one with the least activation memory",
}


def nothing_within(
    budget: Budget,
    least: Sequence[tuple[str, Recipe]],
    near: Recipe,
    cost: Callable[[Recipe], Cost],
) -> UserError:
    """Return the error for a budget that no recipe keeps.

    Args:
        budget: The limits.
        least: What (``"macs"``, ...) and the recipe that has the least of it, without limits.
        near: The recipe that breaks the budget least.
        cost: Cost of a recipe.
    """
    said: list[str] = []
    keys: set[str] = set()
    for name, recipe in [*((_LEAST[what], r) for what, r in least), ("one nearest to it", near)]:
        if recipe.key not in keys:
            keys.add(recipe.key)
            said.append(f"the {name} is {recipe}: {cost(recipe)}")
    told = "; ".join(said)
    return UserError(
        f"No recipe is within the budget ({budget}). {told[:1].upper()}{told[1:]}. "
        "Widen 'budget:' in the run file (MACs are multiply-adds for one image)."
    )


def no_recipe(k: int, left_out: Mapping[str, str | None]) -> UserError:
    """Return the error for blocks that cannot be one a stage and one a set."""
    without = ""
    if left_out:
        without = (
            f" The models {left_out_in_words(left_out)} are left out by 'budget.licenses'; allow "
            "more licences, or state that of a model under 'license:' in its zoo entry."
        )
    return UserError(
        "The partition allows no recipe at all: no choice of one block for each of the "
        f"{k} stages takes one block from each of the {k} sets.{without} Partition again "
        "with another k, eps or seed, or with 'one_per_set: true', which always allows some."
    )


def no_licence(left_out: Mapping[str, str | None], allowed: Sequence[str]) -> UserError:
    """Return the error for licences that leave out every model."""
    known = sorted({name for name in left_out.values() if name is not None})
    hints = "".join(dict.fromkeys(nearest(name.casefold(), known) for name in allowed))
    return UserError(
        f"'budget.licenses' allows {', '.join(allowed) or 'nothing'}, which leaves no model of the "
        f"zoo: {left_out_in_words(left_out)}.{hints} Allow more licences, or state that of a model "
        "under 'license:' in its zoo entry."
    )


def left_out_in_words(left_out: Mapping[str, str | None]) -> str:
    """Return models and their licences as ``a (gpl-3.0), b (licence not known)``."""
    return ", ".join(f"{m} ({own or 'licence not known'})" for m, own in left_out.items())
