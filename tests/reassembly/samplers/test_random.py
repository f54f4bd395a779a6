"""The paper's search, ``random``: candidates drawn within the budget, whatever they score."""

from collections import Counter

import pytest
from scipy.stats import chisquare

from zoo_search.reassembly.samplers import SAMPLERS


def drawn(space, wanted, seed, score=None):
    """The first ``wanted`` proposals, each told the score that ``score`` gives it."""
    sampler = SAMPLERS.get("random", "tests")(space, wanted, seed)
    taken = {}
    while len(taken) < wanted and (recipe := sampler.next(taken)) is not None:
        taken[recipe.key] = recipe
        sampler.tell(recipe, score(recipe) if score else 0.0, space.cost(recipe))
    return list(taken)


def test_every_feasible_recipe_is_as_likely_as_any_other(space):
    """Also as the first and as the tenth that is drawn."""
    every = [recipe.key for recipe in space.enumerate()]
    runs = [drawn(space, 10, seed) for seed in range(20 * len(every))]
    for place in (0, 9):
        counts = Counter(run[place] for run in runs)
        assert set(counts) <= set(every)
        assert chisquare([counts[key] for key in every]).pvalue > 0.01


def test_scores_change_nothing_and_no_recipe_comes_twice(wide, scores):
    up = drawn(wide, 60, 3, lambda r: scores[r.key])
    assert up == drawn(wide, 60, 3, lambda r: -scores[r.key])
    assert len(set(up)) == 60
    assert up != drawn(wide, 60, 4)


def test_there_is_an_end(space):
    every = {recipe.key for recipe in space.enumerate()}
    assert set(drawn(space, 500, 0)) == every


@pytest.mark.parametrize("wanted", [5, 50])
def test_all_candidates_are_within_the_budget(space, wanted):
    feasible = {recipe.key: recipe for recipe in space.enumerate()}
    assert all(space.budget.admits(space.cost(feasible[key])) for key in drawn(space, wanted, 1))
