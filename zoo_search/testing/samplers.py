"""What every sampler keeps to: which recipe to score next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest

from zoo_search.core.errors import UserError
from zoo_search.core.identity import seeded
from zoo_search.costs import Budget
from zoo_search.networks import Recipe
from zoo_search.reassembly import Space
from zoo_search.reassembly.samplers import Sampler
from zoo_search.testing.small import nothing_else_touched, small_space

Maker = Callable[[Space, int, int], Sampler]
Recipes = Sequence[Recipe]


class SamplerContract:
    """Derive from this, give the fixture ``sampler``, and run pytest."""

    draws: ClassVar[bool] = True
    """Whether proposals depend on the seed."""

    @pytest.fixture
    def sampler(self) -> Maker:
        """The class under test, or what makes a sampler of ``(space, wanted, seed)``."""
        raise NotImplementedError("give the fixture 'sampler'")

    @pytest.fixture
    def space(self) -> Space:
        """A space of some thirty feasible recipes; more blocks are to be had than may be used."""
        return small_space()

    def test_every_recipe_is_feasible(self, sampler: Maker, space: Space) -> None:
        """Within the budget, of one block a stage and a set."""
        for recipe in _search(sampler, space, 25):
            assert space.admits(recipe), f"{recipe} is not feasible"

    def test_no_recipe_comes_twice(self, sampler: Maker, space: Space) -> None:
        """Nor one that was scored before without being asked for, as zoo models are."""
        before = space.enumerate()[::7]
        keys = [recipe.key for recipe in (*before, *_search(sampler, space, 20, before))]
        assert len(set(keys)) == len(keys)

    def test_a_small_space_is_seen_to_its_end(self, sampler: Maker, space: Space) -> None:
        """Every feasible recipe comes, and then none, however often one is asked for."""
        every = {recipe.key for recipe in space.enumerate()}
        made = sampler(space, len(every), 0)
        taken = _by_key(_propose(made, space, len(every) + 1))
        assert set(taken) == every
        assert made.next(taken) is None
        assert made.next(taken) is None

    def test_the_same_seed_gives_the_same_recipes(self, sampler: Maker, space: Space) -> None:
        """In another process, too: whatever was drawn before counts for nothing."""
        found = []
        for drawn in range(2):
            with seeded("a process of its own", drawn):
                found.append(_search(sampler, space, 25, seed=3))
        assert found[0] == found[1]

    def test_another_seed_gives_other_recipes(self, sampler: Maker, space: Space) -> None:
        """So that searches with several seeds are several searches."""
        if not self.draws:
            pytest.skip("it draws nothing")
        found = [tuple(_search(sampler, space, 8, seed=seed)) for seed in range(4)]
        assert len(set(found)) > 1

    @pytest.mark.parametrize("stop", [0, 4, 12, 22])
    def test_a_search_goes_on_as_if_it_had_not_stopped(
        self, sampler: Maker, space: Space, stop: int
    ) -> None:
        """A sampler that is told what another one was told proposes what that one would have."""
        whole = _search(sampler, space, 25, wanted=25)
        assert whole[stop:] == _search(sampler, space, 25 - stop, whole[:stop], wanted=25)

    @pytest.mark.parametrize("failing", ["some", "all"])
    def test_the_search_outlives_recipes_that_fail(
        self, sampler: Maker, space: Space, failing: str
    ) -> None:
        """They have no score; they are not proposed again, and all the others are."""
        every = {recipe.key for recipe in space.enumerate()}
        made = sampler(space, len(every), 0)

        def score(recipe: Recipe) -> float | None:
            return None if failing == "all" or _score(recipe) < 0.4 else _score(recipe)

        assert {recipe.key for recipe in _propose(made, space, len(every), score)} == every
        assert made.next(_by_key(space.enumerate())) is None

    def test_several_are_asked_for_at_once(self, sampler: Maker, space: Space) -> None:
        """As many as there are workers, whose answers come in any order."""
        made = sampler(space, 24, 0)
        taken: dict[str, Recipe] = {}
        for _ in range(6):
            asked = []
            for _ in range(4):
                recipe = made.next(taken)
                assert recipe is not None
                assert recipe.key not in taken
                assert space.admits(recipe)
                taken[recipe.key] = recipe
                asked.append(recipe)
            for recipe in reversed(asked):
                made.tell(recipe, _score(recipe), space.cost(recipe))

    def test_a_budget_that_nothing_meets_is_told(self, sampler: Maker) -> None:
        """When it is made: no recipe will ever come."""
        with pytest.raises(UserError, match="budget"):
            sampler(small_space(Budget(max_params=10)), 5, 0)

    def test_nothing_else_is_touched(self, sampler: Maker, space: Space) -> None:
        """What is taken belongs to the search, and random states to whoever seeded them."""
        every = space.enumerate()
        with nothing_else_touched():
            made = sampler(space, 20, 0)
            taken = _by_key(_propose(made, space, 14))
            before = list(taken.items())
            made.next(taken)
            assert list(taken.items()) == before
        assert space.enumerate() == every


def _score(recipe: Recipe) -> float:
    """Return a score of ours: a number in [0, 1) that only the recipe decides on."""
    return int(recipe.key, 16) / 2.0 ** (4 * len(recipe.key))


def _propose(
    sampler: Sampler,
    space: Space,
    most: int,
    score: Callable[[Recipe], float | None] = _score,
    taken: dict[str, Recipe] | None = None,
) -> Recipes:
    """Ask for recipes and tell their scores, one at a time; they are put into ``taken``."""
    proposed: list[Recipe] = []
    taken = {} if taken is None else taken
    while len(proposed) < most and (recipe := sampler.next(taken)) is not None:
        proposed.append(recipe)
        taken[recipe.key] = recipe
        sampler.tell(recipe, score(recipe), space.cost(recipe))
    return proposed


def _search(
    make: Maker,
    space: Space,
    most: int,
    told: Recipes = (),
    *,
    seed: int = 0,
    wanted: int | None = None,
) -> Recipes:
    """Return what a sampler that is first told of ``told`` proposes after that."""
    sampler = make(space, wanted or most + len(told), seed)
    for recipe in told:
        sampler.tell(recipe, _score(recipe), space.cost(recipe))
    return _propose(sampler, space, most, taken=_by_key(told))


def _by_key(recipes: Recipes) -> dict[str, Recipe]:
    return {recipe.key: recipe for recipe in recipes}
