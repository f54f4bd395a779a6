"""Optuna's part of the search: what to try next, and the study that keeps what came of it.

Imports Optuna at the top, so only what runs a search imports this module.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from zoo_search.reassembly.candidates import Candidate
from zoo_search.reassembly.recipe import BlockRef, Recipe
from zoo_search.reassembly.scoring import Outcome
from zoo_search.reassembly.space import Space

__all__ = ["Asked", "RecipeSampler", "SearchStudy"]

_DRAWS = 32
_STARTUP = 10


class RecipeSampler(optuna.samplers.BaseSampler):
    """Draws only recipes that are feasible and were not drawn before.

    ``tpe``: multivariate TPE over the choice of a block at each stage, drawn until it gives such
    a recipe; after 32 vain draws, and for the first 10 recipes, the next of a uniform sample.
    ``random``: the uniform sample, in its order.
    """

    def __init__(self, space: Space, method: str, wanted: int, seed: int) -> None:
        self.space = space
        self.taken: set[str] = set()
        self._sample = space.sample(wanted, seed)
        self._tpe = None
        if method == "tpe":
            # A constant liar would write to the journal at every draw; no draw repeats anyway.
            self._tpe = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, n_startup_trials=_STARTUP, constant_liar=False
            )

    def next_random(self) -> Recipe | None:
        """Return the next recipe of the uniform sample that was not taken, or None."""
        return next((r for r in self._sample if r.key not in self.taken), None)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return one categorical choice a stage."""
        return {
            name: CategoricalDistribution(list(labels))
            for name, labels in choices(self.space).items()
        }

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the choices of one new feasible recipe."""
        for _ in range(_DRAWS if self._tpe is not None else 0):
            assert self._tpe is not None
            params: dict[str, Any] = self._tpe.sample_relative(study, trial, search_space)
            if not params:
                break
            recipe = recipe_of(self.space, params)
            if recipe.key not in self.taken and self.space.admits(recipe):
                return params
        found = self.next_random()
        return {} if found is None else params_of(found)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuse: all choices are made together."""
        raise RuntimeError(f"{param_name} was not drawn together with the other stages")


@dataclass(frozen=True)
class Asked:
    """A recipe to score, and the Optuna trial that stands for it."""

    recipe: Recipe
    kind: str
    trial: Any


class SearchStudy:
    """The Optuna study of a search: asks for recipes, is told of scores, gives the candidates.

    Args:
        space: Feasible recipes.
        path: Journal file; an existing study of the same ``made_from`` is gone on with, another
            one is replaced. None keeps the study in memory.
        trials: Reassemblies to score; the zoo models within the budget come on top and first.
        method: ``"random"`` or ``"tpe"``.
        seed: Seed of the sampler.
        made_from: What says that two searches are the same.
        proxies: Names of the proxies; the first one is what the study maximises.

    Raises:
        UserError: If no recipe is feasible.
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
    ) -> None:
        optuna.logging.set_verbosity(logging.WARNING)
        self.space = space
        self.proxy = proxies[0]
        self.zoo_keys = {recipe.key for recipe in space.zoo}
        self.sampler = RecipeSampler(space, method, trials + len(self.zoo_keys), seed)
        self._study = _open(path, made_from, self.sampler, list(proxies))
        done = self.candidates()
        self.sampler.taken |= {c.recipe.key for c in done}
        new = [r for r in space.zoo if r.key not in self.sampler.taken]
        for recipe in new:
            self._study.enqueue_trial(params_of(recipe), skip_if_exists=True)
        self._queued = len(new)
        self._left = trials - sum(c.kind == "reassembly" for c in done)
        self.resumed = len(done)

    @property
    def expected(self) -> int:
        """How many more recipes will be asked for, at most."""
        return self._queued + max(self._left, 0)

    def ask(self) -> Asked | None:
        """Return the next recipe to score, or None if there is none left."""
        if self._queued:
            self._queued -= 1
        elif self._left <= 0 or self.sampler.next_random() is None:
            return None
        else:
            self._left -= 1
        trial = self._study.ask()
        params = {
            name: trial.suggest_categorical(name, list(labels))
            for name, labels in choices(self.space).items()
        }
        recipe = recipe_of(self.space, params)
        kind = "zoo" if recipe.key in self.zoo_keys else "reassembly"
        self.sampler.taken.add(recipe.key)
        cost = self.space.cost(recipe)
        for name, value in (
            ("recipe", json.dumps(recipe.to_dict())),
            ("blocks", str(recipe)),
            ("kind", kind),
            ("params", cost.params),
            ("macs", cost.macs),
            ("gmacs", round(cost.macs / 1e9, 6)),
        ):
            trial.set_user_attr(name, value)
        return Asked(recipe, kind, trial)

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Record what came of a recipe."""
        trial = asked.trial
        trial.set_user_attr("scores", dict(outcome.scores))
        trial.set_user_attr("reason", outcome.reason)
        trial.set_user_attr("seconds", outcome.seconds)
        if outcome.reason or self.proxy not in outcome.scores:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, outcome.scores[self.proxy])

    def candidates(self) -> list[Candidate]:
        """Return what was scored so far, numbered in the order of asking."""
        trials = self._study.get_trials(deepcopy=False)
        finished = [t for t in trials if t.state.is_finished() and "scores" in t.user_attrs]
        return [_candidate(i, trial) for i, trial in enumerate(finished)]


def choices(space: Space) -> Mapping[str, tuple[str, ...]]:
    """Return the labels to choose from at each stage."""
    return {
        f"stage {stage}": tuple(str(block) for block in blocks)
        for stage, blocks in enumerate(space.stages)
    }


def recipe_of(space: Space, params: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a choice at each stage means."""
    blocks: list[BlockRef] = []
    for stage, options in enumerate(space.stages):
        label = params[f"stage {stage}"]
        blocks.append(next(block for block in options if str(block) == label))
    return space.recipe(blocks)


def params_of(recipe: Recipe) -> dict[str, str]:
    """Return the choice at each stage that a recipe of one block a stage means."""
    return {f"stage {stage}": str(block) for stage, block in enumerate(recipe.blocks)}


def _open(
    path: Path | None, made_from: str, sampler: RecipeSampler, proxies: list[str]
) -> optuna.Study:
    options: dict[str, Any] = {"study_name": "zoo-search", "direction": "maximize"}
    if path is None:
        return optuna.create_study(sampler=sampler, **options)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.parent.mkdir(parents=True, exist_ok=True)
    for again in (True, False):
        storage = JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(
            storage=storage, sampler=sampler, load_if_exists=True, **options
        )
        if study.user_attrs.get("made_from", made_from) == made_from or not again:
            break
        path.unlink()
    study.set_user_attr("made_from", made_from)
    study.set_user_attr("proxies", proxies)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # its process ended in mid-run
    return study


def _candidate(number: int, trial: FrozenTrial) -> Candidate:
    attrs = trial.user_attrs
    return Candidate(
        id=number,
        recipe=Recipe.from_any(json.loads(attrs["recipe"])),
        kind=attrs["kind"],
        params=attrs["params"],
        macs=attrs["macs"],
        scores=attrs["scores"],
        state="complete" if trial.state == TrialState.COMPLETE else "failed",
        reason=attrs["reason"],
        seconds=attrs["seconds"],
    )
