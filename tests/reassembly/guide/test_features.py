"""What recipes have in common, against sets counted by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import rankdata

from zoo_search.networks import BlockRef, Recipe
from zoo_search.reassembly.guide.features import features_of

DEPTHS = {"a": 8, "b": 6}
RECIPES = [
    Recipe.whole("a", 8),
    Recipe((BlockRef("a", 0, 3), BlockRef("a", 3, 8))),  # the same, cut
    Recipe((BlockRef("a", 0, 5),)),
    Recipe((BlockRef("a", 0, 3), BlockRef("b", 2, 6))),
    Recipe((BlockRef("a", 0, 4), BlockRef("b", 2, 6))),
    Recipe((BlockRef("a", 0, 3), BlockRef("b", 2, 4), BlockRef("a", 6, 8))),
]


def nodes(recipe: Recipe) -> set[tuple[str, int]]:
    return {(b.model, n) for b in recipe.blocks for n in range(b.start, b.stop)}


def joints(recipe: Recipe) -> set[tuple[str, int, str, int]]:
    return {(a.model, a.stop, b.model, b.start) for a, b in itertools.pairwise(recipe.runs)}


def test_recipes_share_models_nodes_and_joints() -> None:
    models, held, joined, _ = features_of(RECIPES, DEPTHS, np.zeros((len(RECIPES), 0)))
    products = [(f @ f.T).toarray() for f in (models, held, joined)]
    for i, j in itertools.product(range(len(RECIPES)), repeat=2):
        one, other = RECIPES[i], RECIPES[j]
        shares = [
            np.array([sum(m == name for m, _ in nodes(r)) / DEPTHS[name] for name in DEPTHS])
            for r in (one, other)
        ]
        cosine = shares[0] @ shares[1] / np.prod([np.linalg.norm(s) for s in shares])
        assert products[0][i, j] == pytest.approx(cosine)

        def depth(held: set[tuple[str, int]]) -> float:
            return sum(1 / DEPTHS[model] for model, _ in held)

        both = depth(nodes(one) & nodes(other))
        expected = both / math.sqrt(depth(nodes(one)) * depth(nodes(other)))
        assert products[1][i, j] == pytest.approx(expected)
        common = len(joints(one) & joints(other))
        most = math.sqrt(len(joints(one)) * len(joints(other)))
        assert products[2][i, j] == pytest.approx(common / most if most else 0.0)
    np.testing.assert_allclose(products[0][0], products[0][1])
    np.testing.assert_allclose(products[1][0], products[1][1])


def test_scores_count_by_their_ranks() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=6), np.array([3.0, np.nan, 1.0, 1.0, np.inf, 2.0])
    *_, table = features_of(RECIPES, DEPTHS, np.stack([np.exp(5 * first), second], axis=1))
    found = table.toarray() * math.sqrt(2)
    np.testing.assert_allclose(found[:, 0], (rankdata(first) - 3.5) / rankdata(first).std())
    ranks = np.array([4.0, 1.5, 1.5, 3.0])
    np.testing.assert_allclose(found[[0, 2, 3, 5], 1], (ranks - 2.5) / ranks.std())
    assert found[[1, 4], 1].tolist() == [0.0, 0.0]  # nothing is known
    *_, none = features_of(RECIPES, DEPTHS, np.full((6, 1), np.nan))
    assert not none.toarray().any()
