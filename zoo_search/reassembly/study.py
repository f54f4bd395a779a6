"""The study of a search: what to try next, and what came of it, kept in Optuna.

Imports Optuna at the top, so only what runs a search imports this module.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta

from optuna.trial import FrozenTrial, TrialState, create_trial

from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.candidates import (
    Candidate,
    Kind,
    Outcome,
    State,
    decode,
    encode,
    recipe_in,
)
from zoo_search.reassembly.journal import StudyPlace, open_study
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.samplers.categories import choices_of
from zoo_search.reassembly.samplers.spread import SpreadSampler
from zoo_search.reassembly.scoring import Scoring
from zoo_search.reassembly.space.space import Space, SpaceUnion


@dataclass(frozen=True)
class Asked:
    """A recipe to score."""

    recipe: Recipe
    kind: Kind
    number: int  # how many recipes were asked for before


class SearchStudy:
    """Asks for recipes, is told of scores, gives the candidates; goes on where it was stopped.

    A candidate enters the study when it is told, in one piece, so a process that is killed leaves
    no half of one. What was being scored then is noted in the study beforehand, and asked for
    again by whoever goes on. The study maximises the first proxy; the zoo models within the budget,
    and their first blocks where recipes may end early, come before the ``trials`` reassemblies.

    Raises:
        UserError: If no recipe is feasible, or a name or the storage is wrong.
    """

    def __init__(
        self,
        space: Space | SpaceUnion,
        scoring: Scoring,
        trials: int,
        sampler: str,
        place: StudyPlace,
    ) -> None:
        self.space = space
        self.proxy = next(iter(scoring.proxies))
        self._conditions = scoring.conditions()
        singles = (*space.zoo, *space.prefixes)
        self._kinds: dict[str, Kind] = {recipe.key: "part" for recipe in space.prefixes}
        self._kinds |= {recipe.key: "zoo" for recipe in space.zoo}
        make, wanted = SAMPLERS.get(sampler, "search.sampler"), trials + len(self._kinds)
        self._sampler = (
            make(space, wanted, scoring.seed)
            if isinstance(space, Space)
            else SpreadSampler(make, space, wanted, scoring.seed)
        )
        self._study = open_study(place)
        self._study.set_user_attr("proxies", list(scoring.proxies))
        self._taken: dict[str, Recipe] = {}
        done = sorted(self._told(), key=lambda trial: trial.number)
        for trial in done:
            recipe = _candidate(trial).recipe
            self._taken[recipe.key] = recipe
            score = trial.values[0] if trial.values else None
            self._sampler.tell(recipe, score, space.cost(recipe))
        asked = [recipe_in(r) for r in self._study.user_attrs.get("asked", [])]
        first = {r.key: r for r in (*singles, *asked) if r.key not in self._taken}
        self._first = list(first.values())
        self._numbers: int = max((t.user_attrs["number"] for t in done), default=-1) + 1
        self._left: int = trials - sum(t.user_attrs["kind"] == "reassembly" for t in done)
        self._pending: dict[str, Recipe] = {}
        self.resumed = len(done)

    @property
    def expected(self) -> int:
        """How many more recipes will be asked for, at most."""
        return sum(r.key in self._kinds for r in self._first) + max(self._left, 0)

    def ask(self) -> Asked | None:
        """Return the next recipe to score, or None if there is none left."""
        recipe = self._next()
        if recipe is None:
            return None
        kind = self._kinds.get(recipe.key, "reassembly")
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
        return [_candidate(trial, i) for i, trial in enumerate(trials)]

    def _next(self) -> Recipe | None:
        """Return a zoo model, what a killed process had asked for, or what the sampler proposes."""
        for place, recipe in enumerate(self._first):
            if recipe.key in self._kinds or self._left > 0:
                return self._first.pop(place)
        return self._sampler.next(self._taken) if self._left > 0 else None

    def _note(self) -> None:
        """Keep what would have to be asked for again if this process were killed."""
        waiting = [*self._pending.values(), *self._first]
        self._study.set_user_attr("asked", [recipe.to_dict() for recipe in waiting])

    def _told(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))

    def _trial(self, asked: Asked, outcome: Outcome, score: float | None) -> FrozenTrial:
        """Return a candidate as a trial: its plain values as attributes, and what is shown."""
        recipe, cost = asked.recipe, self.space.cost(asked.recipe)
        choices = choices_of(self.space, recipe)
        state: State = "failed" if score is None else "complete"
        candidate = Candidate(
            asked.number, recipe, asked.kind, state=state, **asdict(cost), **vars(outcome)
        )
        gmacs = round(cost.macs / 1e9, 6)
        data = {name: v for name, v in encode(candidate).items() if name not in ("id", "state")}
        # The columns of the dashboard's table, in this order.
        attrs = {
            "number": asked.number,
            "recipe": json.dumps(data.pop("recipe")),
            "blocks": str(recipe),
            **{name: data.pop(name) for name in ("kind", "params", "macs")},
            "gmacs": gmacs,
            **data,
            "conditions": self._conditions,
        }
        trial = create_trial(
            state=TrialState.FAIL if score is None else TrialState.COMPLETE,
            values=None if score is None else [score, gmacs],
            params={name: choice for name, (choice, _) in choices.items()},
            distributions={name: among for name, (_, among) in choices.items()},
            user_attrs=attrs,
        )
        if trial.datetime_complete is not None:
            trial.datetime_start = trial.datetime_complete - timedelta(seconds=outcome.seconds)
        return trial


def _candidate(trial: FrozenTrial, number: int = -1) -> Candidate:
    """Read a candidate back from a trial."""
    attrs = trial.user_attrs
    state = "complete" if trial.state == TrialState.COMPLETE else "failed"
    recipe = json.loads(attrs["recipe"])
    return decode({**attrs, "id": number, "recipe": recipe, "state": state})
