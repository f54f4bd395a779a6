"""Samplers with one plausible fault each."""

from __future__ import annotations

import itertools
import random
from typing import ClassVar

import numpy as np
import pytest

from zoo_search.networks import Recipe
from zoo_search.reassembly.samplers.base import UniformSampler
from zoo_search.testing.samplers import Maker, SamplerContract


class Sound(UniformSampler):
    """A sampler that is sound: after some recipes, those near the best one first."""

    def __init__(self, space, wanted, seed) -> None:
        super().__init__(space, max(wanted, 81), seed)
        self.space, self.told = space, []

    def next(self, taken):
        if len(self.told) < 5:
            return super().next(taken)
        best, _ = max(self.told, key=lambda pair: pair[1])
        free = [recipe for recipe in self._sample if recipe.key not in taken]
        return max(free, key=lambda r: len({*r.blocks} & {*best.blocks}), default=None)

    def tell(self, recipe, score, cost) -> None:
        if score is not None:
            self.told.append((recipe, score))


class Broken(SamplerContract):
    must_fail: ClassVar[set[str]] = set()
    Made: ClassVar[Maker]

    @pytest.fixture
    def sampler(self) -> Maker:
        return self.Made


class TestSound(Broken):
    Made = Sound


class TestOverBudget(Broken):
    must_fail: ClassVar = {"test_every_recipe_is_feasible"}

    class Made(Sound):
        def __init__(self, space, wanted, seed) -> None:
            super().__init__(space, wanted, seed)
            stages = itertools.product(*space.stages)
            self._sample = [space.recipe(blocks) for blocks in stages]


class TestProposesWhatIsTaken(Broken):
    """It remembers what it proposed itself, and nothing else."""

    must_fail: ClassVar = {"test_no_recipe_comes_twice"}

    class Made(Sound):
        def next(self, taken):
            return self._sample.pop() if self._sample else None


class TestGivesUpEarly(Broken):
    """A number of vain draws, and no look at what is left."""

    must_fail: ClassVar = {"test_a_small_space_is_seen_to_its_end"}

    class Made(Sound):
        def next(self, taken):
            rng = np.random.default_rng(len(taken))
            drawn = (self._sample[rng.integers(len(self._sample))] for _ in range(8))
            return next((recipe for recipe in drawn if recipe.key not in taken), None)


class TestStartsAnew(Broken):
    """Once all are taken it begins from the start."""

    must_fail: ClassVar = {"test_a_small_space_is_seen_to_its_end"}

    class Made(Sound):
        def next(self, taken):
            return super().next(taken) or self._sample[0]


class TestGlobalRandom(Broken):
    must_fail: ClassVar = {
        "test_the_same_seed_gives_the_same_recipes",
        "test_nothing_else_is_touched",
    }

    class Made(Sound):
        def next(self, taken):
            free = [recipe for recipe in self._sample if recipe.key not in taken]
            return random.choice(free) if free else None


class TestNoSeed(Broken):
    must_fail: ClassVar = {"test_another_seed_gives_other_recipes"}

    class Made(Sound):
        def __init__(self, space, wanted, seed) -> None:
            super().__init__(space, wanted, 0)


class TestOneStream(Broken):
    """Random numbers that go on from draw to draw: whoever resumes begins them anew."""

    must_fail: ClassVar = {"test_a_search_goes_on_as_if_it_had_not_stopped"}

    class Made(Sound):
        def __init__(self, space, wanted, seed) -> None:
            super().__init__(space, wanted, seed)
            self.rng = np.random.default_rng(seed)

        def next(self, taken):
            free = [recipe for recipe in self._sample if recipe.key not in taken]
            return free[self.rng.integers(len(free))] if free else None


class TestFailureIsAScore(Broken):
    must_fail: ClassVar = {"test_the_search_outlives_recipes_that_fail"}

    class Made(Sound):
        def tell(self, recipe, score, cost) -> None:
            self.told.append((recipe, score))


class TestOneAtATime(Broken):
    """What it proposed last is what it takes a score for."""

    must_fail: ClassVar = {"test_several_are_asked_for_at_once"}

    class Made(Sound):
        last: Recipe | None = None

        def next(self, taken):
            self.last = super().next(taken)
            return self.last

        def tell(self, recipe, score, cost) -> None:
            if self.last is not None and recipe.key != self.last.key:
                raise KeyError(recipe.key)
            super().tell(recipe, score, cost)


class TestWaitsForever(Broken):
    """It finds out that nothing is feasible only by proposing nothing."""

    must_fail: ClassVar = {"test_a_budget_that_nothing_meets_is_told"}

    class Made(Sound):
        def __init__(self, space, wanted, seed) -> None:
            self._sample, self.told = space.enumerate(), []


class TestTakes(Broken):
    """It writes its own proposals into what is taken."""

    must_fail: ClassVar = {"test_nothing_else_is_touched"}

    class Made(Sound):
        def next(self, taken):
            recipe = super().next(taken)
            if recipe is not None:
                taken[recipe.key] = recipe
            return recipe
