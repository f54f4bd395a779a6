"""``nsga2``: Optuna's NSGA-II on score against cost.

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

__all__ = ["Nsga2Sampler"]

POPULATION = 20


class Nsga2Sampler:
    """NSGA-II (Deb et al., 2002): the score up, GMACs down.

    The first population is drawn uniformly. An offspring that is not feasible, or taken, is
    mended (:class:`.repair.Repair`), and what was mended is what takes part in the evolution.

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
        self._study = optuna.create_study(directions=["maximize", "minimize"])
        self._asked: dict[str, optuna.Trial] = {}
        self._told = 0

    def next(self, taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the next recipe."""
        if self._told < POPULATION and (first := self._uniform.next(taken)) is not None:
            return first
        sampler = _Evolution(self._space, draw_seed(self._seed, len(taken)))
        sampler.repair_with(self._repair, taken)
        trial = self._ask(sampler)
        if sampler.chosen is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._asked[sampler.chosen.key] = trial
        return sampler.chosen

    def tell(self, recipe: Recipe, score: float | None, cost: Cost) -> None:
        """Learn a score and a cost."""
        trial = self._asked.pop(recipe.key, None)
        if trial is None:
            trial = self._ask(_Evolution(self._space, 0, recipe))
        if score is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._told += 1
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

    Args:
        space: The feasible recipes.
        seed: Seed of the draw.
        given: A recipe that is decided already; the draw only gives it its generation.
    """

    def __init__(self, space: Space, seed: int, given: Recipe | None = None) -> None:
        super().__init__(population_size=POPULATION, seed=seed)
        self.chosen = given
        self._space, self._seed = space, seed
        self._repair: Repair | None = None
        self._taken: Mapping[str, Recipe] = {}

    def repair_with(self, repair: Repair, taken: Mapping[str, Recipe]) -> None:
        """Mend the offspring: feasible, and not among ``taken``."""
        self._repair, self._taken = repair, taken

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all stages, whatever was told."""
        return distributions(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the choices of the recipe; none if no recipe is left."""
        several = {name: d for name, d in search_space.items() if not d.single()}
        params = super().sample_relative(study, trial, several)
        if self._repair is not None:
            for name, choice in search_space.items():  # what mutates is drawn anew
                params.setdefault(name, self.sample_independent(study, trial, name, choice))
            child = recipe_of(self._space, params)
            free = self._repair.free(child, self._taken)
            self.chosen = (
                child if free else self._repair.nearest(child.blocks, self._taken, self._seed)
            )
        return {} if self.chosen is None else params_of(self.chosen)
