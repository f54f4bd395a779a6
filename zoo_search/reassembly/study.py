"""The study of a search: what to try next, and what came of it, kept in Optuna.

Imports Optuna at the top, so only what runs a search imports this module.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from zoo_search.core.errors import UserError, first_line
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
from zoo_search.reassembly.journal import StudyPlace, open_studies
from zoo_search.reassembly.known import DAMAGE, Known, budget_to_json
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
    proxies: tuple[str, ...]  # whose scores are wanted


class SearchStudy:
    """Asks for recipes, is told of scores, gives the candidates; goes on where it was stopped.

    A candidate enters the study when it is told, in one piece, so a process that is killed leaves
    no half of one. What was being scored then is noted in the study beforehand, and asked for
    again by whoever goes on. The study maximises the first proxy; the zoo models within the budget,
    and their first blocks where recipes may end early, come before the ``trials`` reassemblies.

    A recipe whose scores are known from an earlier search at the same place is told at once, and
    not asked for; one of which some are known is asked for the others (:class:`.known.Known`).

    Attributes:
        space: What recipes there are.
        proxy: The one that ranks.
        resumed: How many candidates the study held when it was opened.
        taken_over: How many had all their scores from earlier searches, since then.
        completed: How many had some.
        trials: How many reassemblies there are to be; more than were asked for where an earlier
            search knows more of them than count (:meth:`.known.Known.begin`).

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
        self._singles = (*space.zoo, *space.prefixes)
        self._kinds: dict[str, Kind] = {recipe.key: "part" for recipe in space.prefixes}
        self._kinds |= {recipe.key: "zoo" for recipe in space.zoo}
        make, wanted = SAMPLERS.get(sampler, "search.sampler"), trials + len(self._kinds)
        self._sampler = (
            make(space, wanted, scoring.seed)
            if isinstance(space, Space)
            else SpreadSampler(make, space, wanted, scoring.seed)
        )
        self._study, earlier = open_studies(place)
        self._study.set_user_attr("proxies", list(scoring.proxies))
        self._known = Known(earlier, self._conditions, place.proposed_from)
        self._taken: dict[str, Recipe] = {}
        try:
            done = self._go_on(trials, scoring.seed)
        except DAMAGE as error:
            where = "its storage" if place.path is None else str(place.path)
            raise UserError(
                f"The study '{self._study.study_name}' in {where} holds what no search has written "
                f"({type(error).__name__}: {first_line(error)}). Remove the study there, then run "
                "the same command again."
            ) from None
        self._pending: dict[str, Recipe] = {}
        self._ahead: Asked | None = None
        self._over = False
        self.resumed, self.taken_over, self.completed = done, 0, 0

    @property
    def expected(self) -> int:
        """How many more recipes will be asked for, at most."""
        if self._over:
            return 0
        ahead = self._ahead is not None
        return ahead + sum(r.key in self._kinds for r in self._first) + max(self._left, 0)

    @property
    def under_way(self) -> int:
        """How many were asked for that were not told yet."""
        return len(self._pending) - (self._ahead is not None)

    def settle(self) -> None:
        """Tell what is known, up to the first recipe that has to be scored."""
        self._ahead = self._ahead or self._unknown()

    def ask(self) -> Asked | None:
        """Return the next recipe to score, or None if there is none left."""
        asked, self._ahead = self._ahead or self._unknown(), None
        return asked

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Record what came of a recipe."""
        known = self._known.of(asked.recipe)
        scores = {**known.scores, **outcome.scores}
        self._record(asked, replace(outcome, scores=scores))
        self.completed += bool(known.scores)
        self._pending.pop(asked.recipe.key, None)
        if not self._pending and not self.expected:
            self._note()

    def candidates(self) -> list[Candidate]:
        """Return what was scored so far, numbered in the order of asking."""
        trials = sorted(self._told(), key=lambda t: (t.user_attrs["number"], t.number))
        return [_candidate(trial, i) for i, trial in enumerate(trials)]

    def _go_on(self, trials: int, seed: int) -> int:
        """Take up what the study holds; return how many candidates that are.

        Raises:
            Exception: One of :data:`DAMAGE`, if anything in it is not what a search writes.
        """
        done = sorted(self._told(), key=lambda trial: trial.number)
        for trial in done:
            recipe = _candidate(trial).recipe
            self._taken[recipe.key] = recipe
            score = trial.values[0] if trial.values else None
            self._sampler.tell(recipe, score, self.space.cost(recipe))
        begun = self._begin(trials, seed) if not done else self._begun
        self.trials = trials + int(begun["on_top"])
        first = (*self._singles, *self._recipes("asked"), *map(recipe_in, begun["recipes"]))
        self._first = list({r.key: r for r in first if r.key not in self._taken}.values())
        # What need not be noted each time, for it is known without.
        self._recalled = {*self._kinds, *(recipe_in(r).key for r in begun["recipes"])}
        self._numbers: int = max((t.user_attrs["number"] for t in done), default=-1) + 1
        self._left: int = self.trials - sum(t.user_attrs["kind"] == "reassembly" for t in done)
        return len(done)

    def _begin(self, trials: int, seed: int) -> dict[str, Any]:
        """Note what the study begins with, from searches of its kind under other budgets."""
        self._study.set_user_attr("budget", budget_to_json(self.space.budget))
        begin = self._known.begin(self.space, trials, seed, self._kinds)
        if begin.recipes:
            recipes = [recipe.to_dict() for recipe in begin.recipes]
            self._study.set_user_attr("begun", {"recipes": recipes, "on_top": begin.on_top})
        return self._begun

    @property
    def _begun(self) -> dict[str, Any]:
        begun: dict[str, Any] = self._study.user_attrs.get("begun", {"recipes": [], "on_top": 0})
        return begun

    def _recipes(self, attribute: str) -> list[Recipe]:
        return [recipe_in(recipe) for recipe in self._study.user_attrs.get(attribute, [])]

    def _unknown(self) -> Asked | None:
        """Return the next recipe of which a score is wanted, and tell those that are known."""
        while (recipe := self._next()) is not None:
            kind = self._kinds.get(recipe.key, "reassembly")
            self._left -= kind == "reassembly"
            self._taken[recipe.key] = recipe
            known = self._known.of(recipe)
            missing = tuple(name for name in self._conditions if name not in known.scores)
            asked = Asked(recipe, kind, self._numbers, missing)
            self._numbers += 1
            if missing:
                self._pending[recipe.key] = recipe
                self._note()
                return asked
            self._record(asked, known)
            self.taken_over += 1
        self._over = True
        return None

    def _record(self, asked: Asked, outcome: Outcome) -> None:
        failed = bool(outcome.reason) or self.proxy not in outcome.scores
        score = None if failed else outcome.scores[self.proxy]
        self._study.add_trial(self._trial(asked, outcome, score))
        self._sampler.tell(asked.recipe, score, self.space.cost(asked.recipe))

    def _next(self) -> Recipe | None:
        """Return a zoo model, what a killed process had asked for, or what the sampler proposes."""
        for place, recipe in enumerate(self._first):
            if recipe.key in self._kinds or self._left > 0:
                return self._first.pop(place)
        return self._sampler.next(self._taken) if self._left > 0 else None

    def _note(self) -> None:
        """Keep what would have to be asked for again if this process were killed."""
        later = (recipe for recipe in self._first if recipe.key not in self._recalled)
        waiting = [*self._pending.values(), *later]
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
