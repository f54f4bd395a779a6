"""What is done once the restarts are over: the swap search from the best few, and settled anchors.

A restart is its seed, so the partition that it ended with is made again where it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.clustering import cluster
from zoo_search.partition.objective import State
from zoo_search.partition.problem import PartitionProblem
from zoo_search.partition.restarts import Restarts, run_restarts
from zoo_search.partition.swap import swap_search

__all__ = ["FINALISTS", "finalists", "improve", "polish", "polish_one"]

FINALISTS = 8
"""Restarts with different objectives that the swap search goes on from."""


def polish(problem: PartitionProblem, method: str, found: Restarts) -> Restarts:
    """Return the restarts with the best few improved, in this process."""
    chosen = finalists(method, found)
    return improve(found, [polish_one(problem, method, found.seeds[[i]]) for i in chosen])


def finalists(method: str, found: Restarts) -> NDArray[np.int64]:
    """Return the indices of the restarts to improve: the best, and for ``exact`` a few more.

    Restarts that reached the same objective are taken to be the same; the smallest seed stands
    for them.
    """
    order = np.lexsort((found.seeds, -found.objectives))
    different = np.concatenate([[True], np.diff(found.objectives[order]) != 0])
    return np.asarray(order[different][: FINALISTS if method == "exact" else 1])


def polish_one(problem: PartitionProblem, method: str, seed: NDArray[np.int64]) -> Restarts:
    """Run one restart again, seed [1], and go on from its partition.

    ``exact`` swaps anchors until no swap helps. The other methods keep their cuts, and only make
    sure of the most central block of every set among all pairs of its blocks.
    """
    restart = run_restarts(problem, method, seed)
    if method == "exact":
        state, swaps = swap_search(problem, restart.best)
    else:
        state, swaps = cluster(problem, restart.best.cuts, restart.best.anchors, thorough=True), 0
    if state.objective[0] <= restart.objectives[0]:
        return restart
    return Restarts(seed, state.objective, restart.iterations + swaps, state)


def improve(found: Restarts, improved: Sequence[Restarts]) -> Restarts:
    """Return the restarts with single ones replaced by what was reached from them.

    Their records tell the improved objective; swaps count as iterations.
    """
    objectives, iterations = found.objectives.copy(), found.iterations.copy()
    best: tuple[float, int, State] | None = None
    for one in improved:
        at = int(np.flatnonzero(found.seeds == one.seeds[0])[0])
        objectives[at], iterations[at] = one.objectives[0], one.iterations[0]
        key = (-float(one.objectives[0]), int(one.seeds[0]))
        if best is None or key < best[:2]:
            best = (*key, one.best)
    state = found.best if best is None else best[2]
    return Restarts(found.seeds, objectives, iterations, state)
