"""What is done once the restarts are over: the swap search from the best few, and settled anchors.

A restart is its seed, so the partition that it ended with is made again where it is needed.

The swap search over anchors goes beyond the local optima of K-medoids (Eq. 2), which only ever
moves an anchor to another block of the present partition. Here any block that can stand in a
partition of any model may take the place of any anchor, and every model is cut anew for the anchors
proposed. The best proposal of all is taken, K-medoids goes on from there, and so forth until no
swap helps. As the medoids of the sets are among the proposals, the anchors are the most central
blocks of their sets in the end.
"""

from __future__ import annotations

import numpy as np

from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.lattice import Blocks
from zoo_search.partitions.problem.objective import State
from zoo_search.partitions.solvers.exact import anchored, anchored_values, climb
from zoo_search.partitions.solvers.medoids import cluster_blocks
from zoo_search.partitions.solvers.restarts import Restarts, Seeds, merge, run_restarts

_AT_ONCE = 1 << 14

FINALISTS = 8
"""Restarts with different objectives that the swap search goes on from."""


def finalists(method: str, found: Restarts) -> Seeds:
    """Return the seeds of the restarts to improve: the best, and for ``exact`` a few more.

    Restarts that reached the same objective are taken to be the same; the smallest seed stands
    for them.
    """
    order = np.lexsort((found.seeds, -found.objectives))
    different = np.concatenate([[True], np.diff(found.objectives[order]) != 0])
    best = order[different][: FINALISTS if method == "exact" else 1]
    return np.asarray(found.seeds[best])


def polish(problem: PartitionProblem, method: str, seeds: Seeds) -> Restarts:
    """Run restarts again, each seed by itself, and go on from their partitions.

    ``exact`` swaps anchors until no swap helps. The other methods keep their cuts, and only make
    sure of the most central block of every set among all pairs of its blocks.
    """
    return merge(_polish(problem, method, seeds[[i]]) for i in range(len(seeds)))


def _polish(problem: PartitionProblem, method: str, seed: Seeds) -> Restarts:
    restart = run_restarts(problem, method, seed)
    if method == "exact":
        state, swaps = swap_search(problem, restart.best)
    else:
        state = cluster_blocks(problem, restart.best.cuts, restart.best.anchors, thorough=True)
        swaps = 0
    if state.objective[0] <= restart.objectives[0]:
        return restart
    return Restarts(seed, state.objective, restart.iterations + swaps, state)


def improve(found: Restarts, better: Restarts) -> Restarts:
    """Return the restarts with single ones replaced by what was reached from them.

    Their records tell the improved objective; swaps count as iterations.
    """
    objectives, iterations = found.objectives.copy(), found.iterations.copy()
    places = [int(np.flatnonzero(found.seeds == seed)[0]) for seed in better.seeds]
    objectives[places], iterations[places] = better.objectives, better.iterations
    return Restarts(found.seeds, objectives, iterations, better.best)


def swap_search(problem: PartitionProblem, state: State) -> tuple[State, int]:
    """Return a partition, from one, in which no swap of an anchor helps, and the swaps made."""
    swaps = 0
    while (anchors := _best_swap(problem, state)) is not None:
        swaps += 1
        state = climb(problem, anchored(problem, anchors))[0]
    return state, swaps


def _best_swap(problem: PartitionProblem, state: State) -> Blocks | None:
    """Return the anchors, [1, K], after the swap that helps most; None if none does."""
    anchors = state.anchor_blocks()
    known = np.asarray(problem.blocks[:, None].same(anchors).any(axis=1))
    fresh = problem.blocks[~known]
    best, found = float(state.objective[0]), None
    # A proposal is a number: its block among the fresh ones, and the anchor whose place it takes.
    count = len(fresh.start) * problem.k
    for low in range(0, count, _AT_ONCE):
        number = np.arange(low, min(low + _AT_ONCE, count))
        block, place = fresh[number // problem.k], number % problem.k
        proposed = anchors[np.zeros_like(number)]
        proposed.start[np.arange(len(number)), place] = block.start
        proposed.stop[np.arange(len(number)), place] = block.stop
        values = anchored_values(problem, proposed)
        top = int(values.argmax())
        if values[top] > best:
            best, found = float(values[top]), proposed[top : top + 1]
    return found
