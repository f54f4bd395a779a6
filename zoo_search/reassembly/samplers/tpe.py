"""``tpe``: Optuna's multivariate tree-structured Parzen estimator on the score alone.

Imports Optuna at the top, so only what uses this sampler imports this module.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from zoo_search.reassembly.cost import Cost
from zoo_search.reassembly.recipe import Recipe
from zoo_search.reassembly.samplers.choices import distributions, draw_seed, params_of, recipe_of
from zoo_search.reassembly.samplers.repair import Repair
from zoo_search.reassembly.samplers.uniform import UniformSampler
from zoo_search.reassembly.space import Space

__all__ = ["TpeSampler"]

_STARTUP = 10
_DRAWS = 8


class TpeSampler:
    """Multivariate TPE over the choice of a block at each stage (Bergstra et al., 2011).

    After 10 recipes that were drawn uniformly, it draws until it has a feasible recipe that is
    not taken; after 8 vain draws the last one is mended (:class:`.repair.Repair`).

    Args:
        space: The feasible recipes.
        wanted: How many recipes will be asked for, at most.
        seed: Seed of its random numbers.

    Raises:
        UserError: If no recipe is feasible.
    """

    def __init__(self, space: Space, wanted: int, seed: int) -> None:
        optuna.logging.set_verbosity(logging.WARNING)
        self._space, self._seed = space, seed
        self._uniform = UniformSampler(space, wanted, seed)
        self._repair = Repair(space)
        self._distributions = distributions(space)
        self._study = optuna.create_study(direction="maximize")
        self._told = 0

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the next recipe."""
        if self._told < _STARTUP and (first := self._uniform.next(taken)) is not None:
            return first
        seed = draw_seed(self._seed, len(taken))
        self._study.sampler = _Drawing(self._space, self._distributions, seed)
        drawn = self._draw()
        for _ in range(_DRAWS - 1):
            if self._repair.free(drawn, taken):
                return drawn
            drawn = self._draw()
        return self._repair.nearest(drawn.blocks, taken, seed)

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn a score."""
        if score is None:
            return
        self._told += 1
        self._study.add_trial(
            optuna.trial.create_trial(
                params=params_of(recipe), distributions=self._distributions, value=score
            )
        )

    def _draw(self) -> Recipe:
        """Ask for a trial, read its choices, and put it away: it need not be what is scored."""
        trial = self._study.ask()
        params = {
            name: trial.suggest_categorical(name, choice.choices)
            for name, choice in self._distributions.items()
        }
        self._study.tell(trial, state=TrialState.FAIL)
        return recipe_of(self._space, params)


class _Drawing(optuna.samplers.TPESampler):
    """Optuna's sampler on stages with more than one block."""

    def __init__(self, space: Space, choices: Mapping[str, Any], seed: int) -> None:
        # No constant liar: nothing that is still being scored is drawn again anyway.
        super().__init__(
            seed=seed, multivariate=True, n_startup_trials=_STARTUP, constant_liar=False
        )
        self._choices = {name: choice for name, choice in choices.items() if not choice.single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all stages, whatever was told."""
        return dict(self._choices)
