"""K-medoids over the blocks of fixed cuts (DeRy section 3.2, outer optimisation).

The anchor of a set is the block in it with the largest summed similarity.

All pairs of blocks of a set are a quadratic number in the number of models. Up to 40 models they
are summed; beyond that every block is first judged by the members of its set from 16 models, spread
evenly, and only the best few are summed over the whole set, so that time grows linearly. The answer
of a partition is settled over all pairs in the end (:mod:`zoo_search.partitions.solvers.polish`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.lattice import Blocks, Cuts
from zoo_search.partitions.problem.objective import State, assign, members, served

_PAIRS_AT_ONCE = 1_000_000
_MODELS_SUMMED = 40
_MODELS_SAMPLED = 16
_FINALISTS = 12


def best_anchors(
    problem: PartitionProblem,
    cuts: Cuts,
    sets: NDArray[np.int64],
    current: NDArray[np.int64],
    thorough: bool = False,
) -> NDArray[np.int64]:
    """Return for each set the block in it with the largest summed similarity, shape [R, K].

    The current anchor stays where none is strictly better; other ties go to the first block. An
    empty set keeps its (meaningless) current anchor.

    Args:
        problem: The problem.
        cuts: Shape [R, N, K + 1].
        sets: Shape [R, N * K].
        current: Anchors so far, shape [R, K].
        thorough: Sum over all pairs, however many models there are.
    """
    blocks = Blocks.of(cuts)
    runs, count = sets.shape
    summed = thorough or len(problem.models) <= _MODELS_SUMMED
    compared = count if summed else _MODELS_SAMPLED * problem.k + _FINALISTS
    at_once = max(1, _PAIRS_AT_ONCE // (count * compared))
    choose = _among_all if summed else _among_finalists
    anchors = current.copy()
    for low in range(0, runs, at_once):
        rows = slice(low, low + at_once)
        anchors[rows] = choose(problem, blocks[rows], sets[rows], anchors[rows])
    return anchors


def _among_all(
    problem: PartitionProblem, blocks: Blocks, sets: NDArray[np.int64], current: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Compare all blocks of every set."""
    pairs = problem.similarity(blocks[:, :, None], blocks[:, None])
    member = members(problem, sets)
    # [K, blocks] of zeros and ones times [blocks, blocks]: what the members of set j have in common
    # with each block, summed; only blocks of the set itself may stand for it.
    sums = np.where(member, member.astype(np.float64) @ pairs, -np.inf)
    held = np.take_along_axis(sums, current[:, :, None], 2)[:, :, 0]
    return np.where(sums.max(axis=2) > held, sums.argmax(axis=2), current)


def _among_finalists(
    problem: PartitionProblem, blocks: Blocks, sets: NDArray[np.int64], current: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Compare the current anchor with the blocks of each set that a sample of members favours."""
    models, k = len(problem.models), problem.k
    chosen = np.arange(_MODELS_SAMPLED) * models // _MODELS_SAMPLED
    sample = (chosen[:, None] * k + np.arange(k)).ravel()
    votes = problem.similarity(blocks[:, sample, None], blocks[:, None])
    votes *= sets[:, sample, None] == sets[:, None]
    # First the sample's favourites, K times a few; their order is that of the blocks, so that ties
    # are broken as among all pairs. The current anchor stands before them and wins its ties.
    member = members(problem, sets)
    favoured = np.where(member, votes.sum(axis=1)[:, None], -np.inf)
    finalists = np.argpartition(favoured, -_FINALISTS, axis=2)[:, :, -_FINALISTS:]
    finalists = np.concatenate([current[:, :, None], np.sort(finalists, axis=2)], axis=2)
    # Then every block is compared with the finalists of its own set alone: [blocks, finalists] in
    # place of [blocks, blocks]. A set's row of the product picks its own members' comparisons.
    runs = np.arange(len(sets))[:, None]
    judges = finalists[runs, sets]  # [R, blocks, finalists of the block's own set]
    pairs = problem.similarity(blocks[:, :, None], blocks[runs[:, :, None], judges])
    sums = member.astype(np.float64) @ pairs
    # A set with fewer blocks than finalists has got some of other sets: they are no choice.
    sums[~np.take_along_axis(member, finalists, 2)] = -np.inf
    choice = np.take_along_axis(finalists, sums.argmax(axis=2)[:, :, None], 2)[:, :, 0]
    return np.where(member.any(axis=2), choice, current)


def cluster_blocks(
    problem: PartitionProblem, cuts: Cuts, anchors: NDArray[np.int64], thorough: bool = False
) -> State:
    """Alternate between sets for the anchors and anchors for the sets until nothing improves.

    An anchor stays in its own set, so no set is ever empty and the objective never decreases. The
    cuts [R, N, K + 1] stay as they are; ``anchors`` are indices of K distinct blocks, [R, K].
    """
    runs = len(cuts)
    no_sets = np.zeros((runs, cuts.shape[1] * problem.k), dtype=np.int64)
    state = State(cuts, no_sets, anchors.copy(), np.full(runs, -np.inf))
    active = np.arange(runs)
    while len(active):
        present = state.take(active)
        sets = assign(problem, present.cuts, present.anchor_blocks(), keep=True)
        found = best_anchors(problem, present.cuts, sets, present.anchors, thorough)
        after = State.of(problem, present.cuts, sets, found)
        better = np.flatnonzero(after.objective > present.objective)
        state.put(active[better], after.take(better))
        active = active[better]
    return state


def reseed(
    problem: PartitionProblem, cuts: Cuts, sets: NDArray[np.int64], anchors: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give each empty set a block: the worst served one that is no anchor, as its anchor.

    Ties go to the first block; the set that gave the block away gets its best anchor again. With
    ``one_per_set`` no set is ever empty.
    """
    sets, anchors = sets.copy(), anchors.copy()
    present = np.asarray(members(problem, sets).any(axis=2))
    emptied = np.flatnonzero(~present.all(axis=1))
    for row in emptied:
        fit = served(problem, cuts[[row]], sets[[row]], anchors[[row]])[0]
        fit[anchors[row, present[row]]] = np.inf  # an anchor stays where it is
        for empty in np.flatnonzero(~present[row]):
            worst = int(fit.argmin())
            sets[row, worst], anchors[row, empty] = empty, worst
            fit[worst] = np.inf
    if len(emptied):
        anchors[emptied] = best_anchors(problem, cuts[emptied], sets[emptied], anchors[emptied])
    return sets, anchors
