"""What earlier searches know that holds for this one: scores, and recipes to begin with.

A score depends on the recipe, the images, the stitches and the proxy; not on the budget, on what
proposed the recipe, on how many others there were, nor on other proxies. So a search with another
budget, sampler, number of trials or list of proxies scores only what no search before it has.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from zoo_search.core.errors import Note, UserError, first_line
from zoo_search.costs.budget import Budget
from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.candidates import Outcome, recipe_in
from zoo_search.reassembly.space.space import Feasible

if TYPE_CHECKING:
    import optuna

Conditions = Mapping[str, Mapping[str, Any]]
"""What has to be equal for two scores to be compared, by proxy, as plain JSON."""


DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""What comes of attributes of a study that no search has written."""
_BUDGET = TypeAdapter(Budget)


@dataclass(frozen=True)
class Begin:
    """The recipes that a search begins with, and how many of them come on top of its trials."""

    recipes: Sequence[Recipe] = ()
    on_top: int = 0


class Known:
    """Scores of earlier searches, by recipe, as far as they hold under ``conditions``.

    Of a study with attributes that no search has written nothing is taken over, and that is said.

    Args:
        studies: Of searches whose images, stitches and models are the same, oldest first.
        conditions: Of this search's proxies, the first of which ranks.
        proposed_from: What decides on its proposals but for budget and proxies.
    """

    def __init__(
        self, studies: Sequence[optuna.Study], conditions: Conditions, proposed_from: str
    ) -> None:
        self._outcomes: dict[str, Outcome] = {}
        self._begun: dict[str, Recipe] = {}
        self._budgets: list[Budget] = []
        first = next(iter(conditions), None)
        for study in studies:
            attrs = study.user_attrs
            alike = bool(proposed_from) and attrs.get("proposed_from") == proposed_from
            # One that was led by another score would have gone elsewhere.
            try:
                goes_on = alike and first in attrs.get("proxies", [])[:1] and "budget" in attrs
                budgets = [budget_from_json(attrs["budget"])] if goes_on else []
                told = list(_told(study, conditions))
            except (*DAMAGE, UserError) as error:
                warnings.warn(
                    f"the study '{study.study_name}' holds what no search has written "
                    f"({type(error).__name__}: {first_line(error)}): nothing of it is taken over",
                    Note,
                    stacklevel=2,
                )
                continue
            self._budgets += budgets
            for recipe, outcome in told:
                before = self._outcomes.get(recipe.key, Outcome())
                scores = {**before.scores, **outcome.scores}
                self._outcomes[recipe.key] = Outcome(scores, "", outcome.seconds, outcome.init)
                if goes_on:
                    self._begun.setdefault(recipe.key, recipe)

    def of(self, recipe: Recipe) -> Outcome:
        """Return what is known of a recipe: no scores, if nothing is."""
        return self._outcomes.get(recipe.key, Outcome())

    def begin(
        self, space: Feasible, trials: int, seed: int, singles: Mapping[str, object]
    ) -> Begin:
        """Return the feasible recipes that searches of this kind scored under other budgets.

        They count among the ``trials`` as far as draws from the space would have fallen where those
        budgets reached: of a space that has grown to ten times its size, nine tenths of the trials
        go to what is new, and what is known comes on top.

        Args:
            space: Of the new budget.
            trials: Recipes to score.
            seed: Of the draws.
            singles: Keys of recipes that are no reassemblies.
        """
        found = [r for r in self._begun.values() if r.key not in singles and space.admits(r)]
        if not found:
            return Begin()
        drawn = space.sample(trials, seed)
        reached = sum(any(_reaches(budget, space, r) for budget in self._budgets) for r in drawn)
        counted = min(len(found), round(trials * reached / len(drawn)))
        return Begin(found, len(found) - counted)


def _told(study: optuna.Study, conditions: Conditions) -> Iterator[tuple[Recipe, Outcome]]:
    """Yield the recipes of a study with those of their scores that hold under ``conditions``.

    Raises:
        Exception: One of :data:`DAMAGE`, if it is none of ours.
    """
    for trial in study.get_trials(deepcopy=False):
        attrs = trial.user_attrs
        if "recipe" not in attrs:
            continue
        given, then = attrs.get("scores", {}), attrs.get("conditions", {})
        scores = {
            proxy: given[proxy]
            for proxy, now in conditions.items()
            if proxy in given and then.get(proxy) == now and math.isfinite(given[proxy])
        }
        recipe = recipe_in(json.loads(attrs["recipe"]))
        if not math.isfinite(attrs["seconds"]) or not isinstance(attrs["init"], list):
            raise ValueError("seconds and reports of hooks of a trial are none")
        yield recipe, Outcome(scores, "", attrs["seconds"], attrs["init"])


def _reaches(budget: Budget, space: Feasible, recipe: Recipe) -> bool:
    """Return whether a recipe of the space was within another budget, as far as is known."""
    if not budget.measures <= space.budget.measures:
        return False  # what was measured then is not measured now
    licensed = all(budget.licensed(space.costs.licenses.get(name)) for name in recipe.models)
    return licensed and budget.admits(space.cost(recipe))


def budget_from_json(data: Mapping[str, Any]) -> Budget:
    """Read a budget back from what :func:`budget_to_json` gave.

    Raises:
        Exception: One of :data:`DAMAGE`, if it is none.
    """
    licenses = data["licenses"]
    told = Budget(**{**data, "licenses": None if licenses is None else tuple(licenses)})
    return _BUDGET.validate_python(asdict(told))


def budget_to_json(budget: Budget) -> dict[str, Any]:
    """Return a budget as plain JSON."""
    return asdict(budget)
