"""K-means-style clustering of the blocks of fixed cuts (DeRy section 3.2, outer optimisation)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.medoids import best_anchors
from zoo_search.partition.objective import Cuts, State, assign, evaluate, served
from zoo_search.partition.problem import PartitionProblem

__all__ = ["cluster", "reseed"]


def cluster(
    problem: PartitionProblem, cuts: Cuts, anchors: NDArray[np.int64], thorough: bool = False
) -> State:
    """Alternate between sets for the anchors and anchors for the sets until nothing improves.

    An anchor stays in its own set, so no set is ever empty and the objective never decreases.

    Args:
        problem: The problem.
        cuts: Global cuts, shape [R, N, K + 1]; they stay as they are.
        anchors: Indices of K distinct blocks, shape [R, K].
        thorough: As in :func:`zoo_search.partition.medoids.best_anchors`.
    """
    runs = len(cuts)
    state = State(
        cuts,
        np.zeros((runs, cuts.shape[1] * problem.k), dtype=np.int64),
        anchors.copy(),
        np.full(runs, -np.inf),
    )
    active = np.arange(runs)
    while len(active):
        present = state.take(active)
        starts, stops = present.anchor_blocks()
        sets = assign(problem, present.cuts, starts, stops, keep=True)
        found = best_anchors(problem, present.cuts, sets, present.anchors, thorough)
        objective = evaluate(problem, present.cuts, sets, found)
        better = np.flatnonzero(objective > present.objective)
        improved = State(present.cuts, sets, found, objective).take(better)
        state.put(active[better], improved)
        active = active[better]
    return state


def reseed(
    problem: PartitionProblem,
    cuts: Cuts,
    sets: NDArray[np.int64],
    anchors: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give each empty set a block: the worst served one that is no anchor, as its anchor.

    Ties go to the first block; the set that gave the block away gets its best anchor again. With
    ``one_per_set`` no set is ever empty.
    """
    sets, anchors = sets.copy(), anchors.copy()
    present = (sets[:, None, :] == np.arange(problem.k)[None, :, None]).any(axis=2)
    emptied = np.flatnonzero(~present.all(axis=1))
    for row in emptied:
        fit = served(problem, cuts[[row]], sets[[row]], anchors[[row]])[0]
        fit[anchors[row, present[row]]] = np.inf
        for empty in np.flatnonzero(~present[row]):
            worst = int(fit.argmin())
            sets[row, worst], anchors[row, empty] = empty, worst
            fit[worst] = np.inf
    if len(emptied):
        anchors[emptied] = best_anchors(problem, cuts[emptied], sets[emptied], anchors[emptied])
    return sets, anchors
