"""What recipes have in common, as numbers: what the covariance of two of them is made of.

Blocks are not compared as a whole, as in :mod:`~zoo_search.reassembly.samplers.surrogate`: here
recipes of several partitions, with moved ends, whole models and their prefixes stand beside each
other, whose blocks are seldom the same and yet overlap.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import rankdata

from zoo_search.networks.recipe import Recipe

Array = NDArray[np.float64]


def features_of(
    recipes: Sequence[Recipe], depths: Mapping[str, int], scores: Array
) -> list[csr_array]:
    """Return features of N recipes: of models, nodes, joints, and scores, each ``[N, features]``.

    - models: the share of a model's nodes, of each model;
    - nodes: of each node that a recipe holds, the root of its share of the model, so that the
      product of two recipes is the depth that they share;
    - joints: one of each place where a model is left at a cut, and another is entered at one;
    - scores: the ranks of each guide among all recipes, centred and scaled.

    Rows of the first three have length 1, or 0 where there is nothing; rows of the last one have a
    mean square of 1 over all recipes.

    Args:
        recipes: N of them.
        depths: Nodes of each model.
        scores: ``[N, guides]``; not a number: unknown, which counts as the mean.
    """
    models: list[Mapping[Hashable, float]] = []
    nodes: list[Mapping[Hashable, float]] = []
    joints: list[Mapping[Hashable, float]] = []
    for recipe in recipes:
        share = Counter[Hashable]()
        held: dict[Hashable, float] = {}
        for block in recipe.runs:
            depth = depths[block.model]
            share[block.model] += (block.stop - block.start) / depth  # type: ignore[assignment]
            for node in range(block.start, block.stop):
                held[block.model, node] = depth**-0.5
        models.append(share)
        nodes.append(held)
        joints.append(
            {(a.model, a.stop, b.model, b.start): 1.0 for a, b in itertools.pairwise(recipe.runs)}
        )
    ranks = [_ranks(column) for column in scores.T]
    width = max(1, len(ranks)) ** 0.5
    table = np.stack(ranks, axis=1) / width if ranks else np.zeros((len(recipes), 0))
    return [*(_unit_rows(rows) for rows in (models, nodes, joints)), csr_array(table)]


def _unit_rows(rows: Sequence[Mapping[Hashable, float]]) -> csr_array:
    """Return rows of named values as a matrix whose rows have length 1 (or 0)."""
    place: dict[Hashable, int] = {}
    for row in rows:
        for name in row:
            place.setdefault(name, len(place))
    values, columns, starts = [], [], [0]
    for row in rows:
        length = sum(value**2 for value in row.values()) ** 0.5
        values += [value / length for value in row.values()]
        columns += [place[name] for name in row]
        starts.append(len(values))
    shape = (len(rows), len(place))
    return csr_array((np.array(values, np.float64), columns, starts), shape=shape)


def _ranks(column: Array) -> Array:
    there = np.isfinite(column)
    found = np.zeros(len(column))
    if there.any():
        ranks = rankdata(column[there])
        found[there] = (ranks - ranks.mean()) / (ranks.std() or 1.0)
    return found
