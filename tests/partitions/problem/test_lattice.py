"""Best paths through columns of cuts, against all paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo_search.partitions.problem.lattice import (
    best_paths,
    best_values,
    columns,
    stages,
)
from zoo_search.partitions.problem.limits import size_limit


@pytest.fixture(params=[([1] * 6, 3, 0.5), ([3, 1, 4, 1, 5, 2], 3, 1.4), ([2, 7, 1], 1, 0.5)])
def case(request):
    """Sizes, K, and all partitions within the limit as tuples of K + 1 cuts."""
    sizes, k, eps = request.param
    limit = size_limit(sum(sizes), k, eps)
    every = [
        (0, *inner, len(sizes))
        for inner in itertools.combinations(range(1, len(sizes)), k - 1)
        if all(sum(sizes[a:b]) < limit for a, b in itertools.pairwise((0, *inner, len(sizes))))
    ]
    return sizes, k, limit, every


def test_columns_are_the_cuts_of_all_partitions(case):
    sizes, k, limit, every = case
    for t, (low, high) in enumerate(columns(sizes, k, limit)):
        at = {cuts[t] for cuts in every}
        assert (low, high) == (min(at), max(at))


@pytest.mark.parametrize("one_each", [False, True])
def test_the_best_path_is_the_best_of_all(case, one_each):
    sizes, k, limit, every = case
    rng, runs, offset = np.random.default_rng(0), 5, 10
    lattice = stages(offset, sizes, k, limit)
    sets = k if one_each else 1
    scores = [rng.integers(0, 6, (sets, *s.allowed.shape, runs)).astype(float) for s in lattice]
    for stage, score in zip(lattice, scores, strict=True):
        stage.bar(score)

    def value(cuts, run, order):
        total = 0.0
        for t, stage in enumerate(lattice):
            s, e = offset + cuts[t] - stage.start, offset + cuts[t + 1] - stage.stop
            total += scores[t][order[t], s, e, run]
        return total

    orders = list(itertools.permutations(range(k))) if one_each else [(0,) * k]
    place = best_paths(scores, one_each)
    firsts = [*(stage.start for stage in lattice), lattice[-1].stop]
    values = best_values(scores, one_each)
    for run in range(runs):
        best = max(value(cuts, run, order) for cuts in every for order in orders)
        found = tuple(int(x) - offset for x in place[run] + np.array(firsts))
        assert found in every
        assert max(value(found, run, order) for order in orders) == best == values[run]
