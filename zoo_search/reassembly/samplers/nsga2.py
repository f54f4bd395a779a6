"""``nsga2``: Optuna's NSGA-II on score against cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from zoo_search.costs.budget import Cost
from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly.samplers.base import LearningSampler
from zoo_search.reassembly.samplers.categories import distributions, draw_seed, params_of, recipe_of
from zoo_search.reassembly.samplers.repair import Repair
from zoo_search.reassembly.space.space import Space


class Nsga2Sampler(LearningSampler):
    """NSGA-II (Deb et al., 2002): the score up, GMACs down.

    The first population is drawn uniformly. An offspring that is not feasible, or taken, is
    mended (:class:`.repair.Repair`), and what was mended is what takes part in the evolution.
    """

    startup = 20  # a population

    def __init__(self, space: Space, wanted: int, seed: int) -> None:
        super().__init__(space, wanted, seed)
        optuna.logging.set_verbosity(logging.WARNING)
        self._repair = Repair(space)
        self._distributions = distributions(space)
        self._study = optuna.create_study(directions=["maximize", "minimize"])
        self._asked: dict[str, optuna.Trial] = {}

    def propose(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return an offspring, mended if need be."""
        seed = draw_seed(self.seed, len(taken))

        def mended(child: Recipe) -> Recipe | None:
            free = self._repair.free(child, taken)
            return child if free else self._repair.nearest(child.blocks, taken, seed)

        sampler = _Evolution(self.space, seed, mended)
        trial = self._ask(sampler)
        if sampler.chosen is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._asked[sampler.chosen.key] = trial
        return sampler.chosen

    def learn(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn a score and a cost."""
        trial = self._asked.pop(recipe.key, None)
        if trial is None:
            trial = self._ask(_Evolution(self.space, 0, recipe))
        if score is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, [score, cost.macs / 1e9])

    def _ask(self, sampler: _Evolution) -> optuna.Trial:
        """Open a trial with the choices of the sampler."""
        self._study.sampler = sampler
        trial = self._study.ask()
        for name, choice in self._distributions.items():
            trial.suggest_categorical(name, choice.choices)
        return trial


class _Evolution(optuna.samplers.NSGAIISampler):
    """One draw of Optuna's sampler that ends in a recipe which may be scored.

    That is ``decided`` already, and only given its generation, or made of the offspring.
    """

    def __init__(
        self, space: Space, seed: int, decided: Recipe | Callable[[Recipe], Recipe | None]
    ) -> None:
        super().__init__(population_size=Nsga2Sampler.startup, seed=seed)
        self.chosen = decided if isinstance(decided, Recipe) else None
        self._space, self._decided = space, decided

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all stages, whatever was told."""
        return dict(distributions(self._space))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, str]:
        """Return the choices of the recipe; none if no recipe is left."""
        several = {name: d for name, d in search_space.items() if not d.single()}
        params = super().sample_relative(study, trial, several)
        if not isinstance(self._decided, Recipe):
            for name, choice in search_space.items():  # what mutates is drawn anew
                params.setdefault(name, self.sample_independent(study, trial, name, choice))
            self.chosen = self._decided(recipe_of(self._space, params))
        return {} if self.chosen is None else params_of(self._space, self.chosen)
