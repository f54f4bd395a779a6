"""The study of a search: what to try next, and what came of it, kept in Optuna.

Imports Optuna at the top, so only what runs a search imports this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from zoo_search.reassembly.candidates import Candidate
from zoo_search.reassembly.cost import Cost
from zoo_search.reassembly.journal import open_study
from zoo_search.reassembly.recipe import Recipe
from zoo_search.reassembly.samplers import make_sampler
from zoo_search.reassembly.samplers.choices import distributions, params_of
from zoo_search.reassembly.scoring import Outcome
from zoo_search.reassembly.space import Space

__all__ = ["Asked", "SearchStudy"]


@dataclass(frozen=True)
class Asked:
    """A recipe to score.

    Attributes:
        recipe: What it is.
        kind: ``"zoo"`` or ``"reassembly"``.
        number: How many recipes were asked for before.
    """

    recipe: Recipe
    kind: str
    number: int


class SearchStudy:
    """Asks for recipes, is told of scores, gives the candidates; goes on where it was stopped.

    A candidate enters the study when it is told, in one piece, so a process that is killed leaves
    no half of one. What was being scored then is noted in the study beforehand, and asked for
    again by whoever goes on.

    Args:
        space: Feasible recipes.
        path: Journal file; an existing study of the same ``made_from`` is gone on with, another
            one is replaced. None keeps the study in memory.
        trials: Reassemblies to score; the zoo models within the budget come on top and first.
        method: Name of the sampler (:data:`zoo_search.reassembly.samplers.SAMPLERS`).
        seed: Seed of the sampler.
        made_from: What says that two searches are the same.
        proxies: Names of the proxies; the first one is what the study maximises.
        storage: URL of an Optuna storage to keep the study in instead of a journal file.
        name: Name of the study in that storage.
        conditions: What the scores are taken under, by proxy; kept with each of them.

    Raises:
        UserError: If no recipe is feasible, or a name or the storage is wrong.
    """

    def __init__(
        self,
        space: Space,
        path: Path | None,
        trials: int,
        method: str,
        seed: int,
        made_from: str,
        proxies: Sequence[str],
        *,
        storage: str | None = None,
        name: str = "zoo-search",
        conditions: Mapping[str, Any] | None = None,
    ) -> None:
        self.space = space
        self.proxy = proxies[0]
        self._conditions = dict(conditions or {})
        self._zoo = {recipe.key for recipe in space.zoo}
        self._distributions = distributions(space)
        self._sampler = make_sampler(method, space, trials + len(self._zoo), seed)
        self._study = open_study(path, storage, name, made_from)
        self._study.set_user_attr("proxies", list(proxies))
        self._taken: dict[str, Recipe] = {}
        done = sorted(self._told(), key=lambda trial: trial.number)
        for trial in done:
            self._learn(_recipe(trial), trial.values[0] if trial.values else None)
        asked = [Recipe.from_any(r) for r in self._study.user_attrs.get("asked", [])]
        first = {r.key: r for r in (*space.zoo, *asked) if r.key not in self._taken}
        self._first = list(first.values())
        self._numbers: int = max((t.user_attrs["number"] for t in done), default=-1) + 1
        self._left: int = trials - sum(t.user_attrs["kind"] == "reassembly" for t in done)
        self._pending: dict[str, Recipe] = {}
        self.resumed = len(done)

    @property
    def expected(self) -> int:
        """How many more recipes will be asked for, at most."""
        return sum(r.key in self._zoo for r in self._first) + max(self._left, 0)

    def ask(self) -> Asked | None:
        """Return the next recipe to score, or None if there is none left."""
        recipe = self._next()
        if recipe is None:
            return None
        kind = "zoo" if recipe.key in self._zoo else "reassembly"
        self._left -= kind == "reassembly"
        self._taken[recipe.key] = recipe
        self._pending[recipe.key] = recipe
        self._note()
        self._numbers += 1
        return Asked(recipe, kind, self._numbers - 1)

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Record what came of a recipe."""
        failed = bool(outcome.reason) or self.proxy not in outcome.scores
        score = None if failed else outcome.scores[self.proxy]
        self._study.add_trial(self._trial(asked, outcome, score))
        self._pending.pop(asked.recipe.key, None)
        if not self._pending and not self.expected:
            self._note()
        self._sampler.tell(asked.recipe, score, self.space.cost(asked.recipe))

    def candidates(self) -> list[Candidate]:
        """Return what was scored so far, numbered in the order of asking."""
        trials = sorted(self._told(), key=lambda t: (t.user_attrs["number"], t.number))
        return [_candidate(i, trial) for i, trial in enumerate(trials)]

    def _next(self) -> Recipe | None:
        """Return a zoo model, what a killed process had asked for, or what the sampler proposes."""
        for place, recipe in enumerate(self._first):
            if recipe.key in self._zoo or self._left > 0:
                return self._first.pop(place)
        return self._sampler.next(self._taken) if self._left > 0 else None

    def _note(self) -> None:
        """Keep what would have to be asked for again if this process were killed."""
        waiting = [*self._pending.values(), *self._first]
        self._study.set_user_attr("asked", [recipe.to_dict() for recipe in waiting])

    def _learn(self, recipe: Recipe, score: float | None) -> None:
        """Tell the sampler what the study holds."""
        self._taken[recipe.key] = recipe
        self._sampler.tell(recipe, score, self.space.cost(recipe))

    def _told(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))

    def _trial(self, asked: Asked, outcome: Outcome, score: float | None) -> FrozenTrial:
        cost = self.space.cost(asked.recipe)
        gmacs = round(cost.macs / 1e9, 6)
        attrs = {
            "number": asked.number,
            "recipe": json.dumps(asked.recipe.to_dict()),
            "blocks": str(asked.recipe),
            "kind": asked.kind,
            "params": cost.params,
            "macs": cost.macs,
            "gmacs": gmacs,
            **_measured(cost),
            "scores": dict(outcome.scores),
            "reason": outcome.reason,
            "seconds": outcome.seconds,
            "init": list(outcome.init),
            "conditions": self._conditions,
        }
        trial = create_trial(
            state=TrialState.FAIL if score is None else TrialState.COMPLETE,
            values=None if score is None else [score, gmacs],
            params=params_of(asked.recipe),
            distributions=self._distributions,
            user_attrs=attrs,
        )
        if trial.datetime_complete is not None:
            trial.datetime_start = trial.datetime_complete - timedelta(seconds=outcome.seconds)
        return trial


def _measured(cost: Cost) -> dict[str, float | int]:
    """Return the costs that are there only where they were asked for."""
    found = {"latency_ms": cost.latency, "memory": cost.memory}
    return {name: value for name, value in found.items() if value is not None}


def _recipe(trial: FrozenTrial) -> Recipe:
    return Recipe.from_any(json.loads(trial.user_attrs["recipe"]))


def _candidate(number: int, trial: FrozenTrial) -> Candidate:
    attrs = trial.user_attrs
    return Candidate(
        id=number,
        recipe=_recipe(trial),
        kind=attrs["kind"],
        params=attrs["params"],
        macs=attrs["macs"],
        scores=attrs["scores"],
        state="complete" if trial.state == TrialState.COMPLETE else "failed",
        reason=attrs["reason"],
        seconds=attrs["seconds"],
        latency=attrs.get("latency_ms"),
        memory=attrs.get("memory"),
        init=tuple(attrs["init"]),
    )
