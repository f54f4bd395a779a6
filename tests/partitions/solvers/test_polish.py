"""What is done once the restarts are over."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_search.partitions.check import check
from zoo_search.partitions.search import find_restarts, finish
from zoo_search.partitions.solvers.polish import finalists
from zoo_search.partitions.solvers.restarts import restart_seeds, run_restarts


@pytest.mark.parametrize("method", ["exact", "kl", "random"])
@pytest.mark.parametrize("one_per_set", [False, True])
def test_polishing_keeps_the_constraints_and_the_records(random_problem, method, one_per_set):
    # more models than the most central block is looked for among all pairs during a restart
    problem = random_problem([7, 8, 11, 12] * 12, k=4, eps=0.3, one_per_set=one_per_set)
    found = run_restarts(problem, method, restart_seeds(2, 6))
    better = find_restarts(problem, method, found.seeds)
    assert (better.objectives >= found.objectives).all()
    assert (better.seeds == found.seeds).all()
    others = np.flatnonzero(~np.isin(found.seeds, finalists(method, found)))
    np.testing.assert_array_equal(better.objectives[others], found.objectives[others])
    result = finish(problem, method, better)
    check(problem, result)
    assert result.objective == better.objectives.max()
