"""``tpe``: Optuna's multivariate tree-structured Parzen estimator on the score alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from zoo_search.costs.budget import Cost
from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.samplers.base import LearningSampler
from zoo_search.reassembly.samplers.categories import distributions, draw_seed, params_of, recipe_of
from zoo_search.reassembly.samplers.repair import Repair
from zoo_search.reassembly.space.space import Space

_DRAWS = 8


class TpeSampler(LearningSampler):
    """Multivariate TPE over the choice of a block at each stage (Bergstra et al., 2011).

    After 10 recipes that were drawn uniformly, it draws until it has a feasible recipe that is
    not taken; after 8 vain draws the last one is mended (:class:`.repair.Repair`).
    """

    startup = 10

    def __init__(self, space: Space, wanted: int, seed: int) -> None:
        super().__init__(space, wanted, seed)
        optuna.logging.set_verbosity(logging.WARNING)
        self._repair = Repair(space)
        self._distributions = distributions(space)
        self._study = optuna.create_study(direction="maximize")

    def propose(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return a draw of Optuna's sampler, mended if need be."""
        seed = draw_seed(self.seed, len(taken))
        self._study.sampler = _Drawing(self._distributions, seed)
        for _ in range(_DRAWS):
            drawn = self._draw()
            if self._repair.free(drawn, taken):
                return drawn
        return self._repair.nearest(drawn.blocks, taken, seed)

    def learn(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn a score."""
        if score is not None:
            choices = dict[str, BaseDistribution](self._distributions)
            params = params_of(self.space, recipe)
            trial = create_trial(params=params, distributions=choices, value=score)
            self._study.add_trial(trial)

    def _draw(self) -> Recipe:
        """Ask for a trial, read its choices, and put it away: it need not be what is scored."""
        trial = self._study.ask()
        params = {
            name: trial.suggest_categorical(name, choice.choices)
            for name, choice in self._distributions.items()
        }
        self._study.tell(trial, state=TrialState.FAIL)
        return recipe_of(self.space, params)


class _Drawing(optuna.samplers.TPESampler):
    """Optuna's sampler on stages with more than one block."""

    def __init__(self, choices: Mapping[str, BaseDistribution], seed: int) -> None:
        # No constant liar: nothing that is still being scored is drawn again anyway.
        super().__init__(
            seed=seed, multivariate=True, n_startup_trials=TpeSampler.startup, constant_liar=False
        )
        self._choices = {name: choice for name, choice in choices.items() if not choice.single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all stages, whatever was told."""
        return dict(self._choices)
