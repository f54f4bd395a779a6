"""The paper's own method: Kernighan-Lin style layer swaps (DeRy Eqs. 6, 7) and K-means (Eq. 2).

With sets and anchors fixed, two successive blocks of a model keep their boundary, hand their last
node forward or take the next one back, whichever gives the largest objective (Eq. 6); the sweep
over the boundaries repeats until no swap helps. Then the blocks are clustered anew around the best
anchors of the sets. Swaps may move the block that an anchor was taken from, so a round can lower
the objective: the best partition so far is kept, and a restart ends after ``most`` rounds in a
row without a better one, or when a round moves no cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.lattice import Blocks, Cuts
from zoo_search.partitions.problem.objective import State
from zoo_search.partitions.solvers.medoids import best_anchors, cluster_blocks


def climb(
    problem: PartitionProblem, start: State, most: int = 3
) -> tuple[State, NDArray[np.int64]]:
    """Return the best partitions found from R valid ones, and the rounds that each took, [R].

    A restart ends after ``most`` rounds in a row without a better partition.
    """
    active = np.arange(len(start.cuts))
    best, present = start.take(active), start.take(active)
    rounds, waited = np.zeros((2, len(active)), dtype=np.int64)
    while len(active):
        rounds[active] += 1
        before = present.take(active)
        cuts = swap(problem, before.cuts, before.sets, before.anchor_blocks())
        anchors = best_anchors(problem, cuts, before.sets, before.anchors)
        after = cluster_blocks(problem, cuts, anchors)
        present.put(active, after)
        better = after.objective > best.objective[active]
        best.put(active[better], after.take(np.flatnonzero(better)))
        waited[active] = np.where(better, 0, waited[active] + 1)
        moved = (after.cuts != before.cuts).any(axis=(1, 2))
        active = active[moved & (waited[active] < max(1, most))]
    return best, rounds


def swap(problem: PartitionProblem, cuts: Cuts, sets: NDArray[np.int64], anchors: Blocks) -> Cuts:
    """Return cuts [R, N, K + 1] from which no forward or backward swap of one node helps.

    The sets [R, N * K] and anchors [R, K] stay. No swap breaks the size limit or empties a block.
    """
    k = problem.k
    cuts = cuts.copy()
    own = anchors.pick(sets)
    active = np.arange(len(cuts))
    while len(active):
        moved = np.zeros(len(active), dtype=bool)
        for stage in range(k - 1):
            # Of two neighbouring blocks, [low, middle) and [middle, high), only the boundary moves:
            # Eq. 6 over the three choices, for this boundary of all models at once.
            low, middle, high = (cuts[active, :, stage + i] for i in range(3))
            first, second = (own[active][:, s::k] for s in (stage, stage + 1))
            options = []
            for shift in (0, -1, 1):
                left, right = Blocks(low, middle + shift), Blocks(middle + shift, high)
                value = np.full(low.shape, -np.inf)
                at = _allowed(problem, left) & _allowed(problem, right)
                value[at] = problem.similarity(left[at], first[at])
                value[at] += problem.similarity(right[at], second[at])
                options.append(value)
            # Ties go to the first choice, to stay: so the sweeps come to an end.
            shift = np.array([0, -1, 1])[np.argmax(options, axis=0)]
            cuts[active, :, stage + 1] = middle + shift
            moved |= (shift != 0).any(axis=1)
        active = active[moved]
    return cuts


def _allowed(problem: PartitionProblem, blocks: Blocks) -> NDArray[np.bool_]:
    """Return whether blocks, each of one model, hold a node and respect the size limit."""
    width, most = blocks.stop - blocks.start, len(problem.feasible)
    allowed = problem.feasible[np.clip(width - 1, 0, most - 1), blocks.start]
    return np.asarray((width >= 1) & (width <= most) & allowed)
