"""Swap search over anchors, beyond the local optima of K-medoids (Eq. 2).

K-medoids only ever moves an anchor to another block of the present partition. Here any block that
can stand in a partition of any model may take the place of any anchor, and every model is cut anew
for the anchors proposed. The best proposal of all is taken, K-medoids goes on from there, and so
forth until no swap helps. As the medoids of the sets are among the proposals, the anchors are the
most central blocks of their sets in the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.exact import anchored, anchored_values, climb
from zoo_search.partition.objective import Cuts, State
from zoo_search.partition.problem import PartitionProblem

__all__ = ["all_blocks", "swap_search"]

_AT_ONCE = 1 << 14


def swap_search(problem: PartitionProblem, state: State) -> tuple[State, int]:
    """Return a partition in which no swap of one anchor raises the objective, and the swaps made.

    Args:
        problem: The problem.
        state: One valid partition; it is not changed.
    """
    swaps = 0
    while True:
        anchors = _best_swap(problem, state)
        if anchors is None:
            return state, swaps
        swaps += 1
        state = climb(problem, anchored(problem, *anchors))[0]


def all_blocks(problem: PartitionProblem) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the global starts and stops, each [B], of all blocks that a partition can have."""
    pairs = np.concatenate(
        [
            np.argwhere(stage.allowed) + np.array([[stage.start, stage.stop]])
            for model in problem.lattice
            for stage in model
        ]
    )
    found = np.unique(pairs, axis=0)
    return found[:, 0], found[:, 1]


def _best_swap(problem: PartitionProblem, state: State) -> tuple[Cuts, Cuts] | None:
    """Return the anchors, each [1, K], after the swap that helps most; None if none does."""
    starts, stops = (rows[0] for rows in state.anchor_blocks())
    new_starts, new_stops = all_blocks(problem)
    known = (new_starts[:, None] == starts) & (new_stops[:, None] == stops)
    fresh = np.flatnonzero(~known.any(axis=1))
    best, found = float(state.objective[0]), None
    for low in range(0, len(fresh) * problem.k, _AT_ONCE):
        number = np.arange(low, min(low + _AT_ONCE, len(fresh) * problem.k))
        block, place = fresh[number // problem.k], number % problem.k
        first, last = np.tile(starts, (len(number), 1)), np.tile(stops, (len(number), 1))
        first[np.arange(len(number)), place] = new_starts[block]
        last[np.arange(len(number)), place] = new_stops[block]
        values = anchored_values(problem, first, last)
        top = int(values.argmax())
        if values[top] > best:
            best, found = float(values[top]), (first[[top]], last[[top]])
    return found
