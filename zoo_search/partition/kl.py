"""The paper's own method: Kernighan-Lin style layer swaps (DeRy Eqs. 6, 7) and K-means (Eq. 2).

With sets and anchors fixed, two successive blocks of a model keep their boundary, hand their last
node forward or take the next one back, whichever gives the largest objective (Eq. 6); the sweep
over the boundaries repeats until no swap helps. Then the blocks are clustered anew around the best
anchors of the sets. Swaps may move the block that an anchor was taken from, so a round can lower
the objective: the best partition so far is kept, and a restart ends after ``patience`` rounds in a
row without a better one, or when a round moves no cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.clustering import cluster
from zoo_search.partition.medoids import best_anchors
from zoo_search.partition.objective import Cuts, State
from zoo_search.partition.problem import PartitionProblem

__all__ = ["climb", "swap"]


def climb(
    problem: PartitionProblem, start: State, patience: int = 3
) -> tuple[State, NDArray[np.int64]]:
    """Return the best partitions found from R starts, and the rounds that each took, [R]."""
    best = start.take(np.arange(len(start.cuts)))
    present = start.take(np.arange(len(start.cuts)))
    rounds = np.zeros(len(start.cuts), dtype=np.int64)
    waited = np.zeros(len(start.cuts), dtype=np.int64)
    active = np.arange(len(start.cuts))
    while len(active):
        rounds[active] += 1
        before = present.take(active)
        anchor_starts, anchor_stops = before.anchor_blocks()
        cuts = swap(problem, before.cuts, before.sets, anchor_starts, anchor_stops)
        anchors = best_anchors(problem, cuts, before.sets, before.anchors)
        after = cluster(problem, cuts, anchors)
        present.put(active, after)
        better = after.objective > best.objective[active]
        best.put(active[better], after.take(np.flatnonzero(better)))
        waited[active] = np.where(better, 0, waited[active] + 1)
        moved = (after.cuts != before.cuts).any(axis=(1, 2))
        active = active[moved & (waited[active] < max(1, patience))]
    return best, rounds


def swap(
    problem: PartitionProblem,
    cuts: Cuts,
    sets: NDArray[np.int64],
    anchor_starts: Cuts,
    anchor_stops: Cuts,
) -> Cuts:
    """Return cuts [R, N, K + 1] from which no forward or backward swap of one node helps.

    Args:
        problem: The problem; no swap breaks the size limit or empties a block.
        cuts: Global cuts, shape [R, N, K + 1].
        sets: Shape [R, N * K].
        anchor_starts: Shape [R, K].
        anchor_stops: Shape [R, K].
    """
    runs, models, k = len(cuts), len(problem.models), problem.k
    cuts = cuts.copy()
    own_start = np.take_along_axis(anchor_starts, sets, 1).reshape(runs, models, k)
    own_stop = np.take_along_axis(anchor_stops, sets, 1).reshape(runs, models, k)
    active = np.arange(runs)
    while len(active):
        moved = np.zeros(len(active), dtype=bool)
        for stage in range(k - 1):
            low, middle, high = (cuts[active, :, stage + i] for i in range(3))
            options = []
            for shift in (0, -1, 1):
                at = middle + shift
                value = np.full(at.shape, -np.inf)
                allowed = _allowed(problem, low, at) & _allowed(problem, at, high)
                a, b, c = low[allowed], at[allowed], high[allowed]
                here = [
                    anchor[active][:, :, s][allowed]
                    for s in (stage, stage + 1)
                    for anchor in (own_start, own_stop)
                ]
                v = problem.values
                value[allowed] = (v[a, here[0]] + v[b, here[1]]) + (v[b, here[2]] + v[c, here[3]])
                options.append(value)
            shift = np.array([0, -1, 1])[np.argmax(options, axis=0)]
            cuts[active, :, stage + 1] = middle + shift
            moved |= (shift != 0).any(axis=1)
        active = active[moved]
    return cuts


def _allowed(problem: PartitionProblem, start: Cuts, stop: Cuts) -> NDArray[np.bool_]:
    """Return whether blocks [start, stop) of one model hold a node and respect the size limit."""
    width = stop - start
    known = (width >= 1) & (width <= len(problem.feasible))
    allowed: NDArray[np.bool_] = problem.feasible[
        np.clip(width - 1, 0, len(problem.feasible) - 1), start
    ]
    return known & allowed
