"""An upper bound on the objective of Eq. 2 that holds for every partition of the problem."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.problem.definition import PartitionProblem


def upper_bound(problem: PartitionProblem) -> float:
    """Return a value that no partition exceeds, by a dynamic program with free anchors.

    At most K blocks are anchors and score S(B, B). Every other block scores at most what its best
    conceivable anchor would give: in another model the best cut for its start plus the best cut
    for its stop, in its own model the best feasible block that does not overlap it. The relaxation
    is that blocks need not agree on K anchors; cuts, Eq. 4 and the size limit (Eq. 5) are kept. The
    best cuts of each model for each number of anchors in it, and the best distribution of K
    anchors over the models, are then exact dynamic programs.
    """
    widths, cells = problem.feasible.shape
    k, firsts = problem.k, problem.offsets
    own, other = _scores(problem)
    # best[i, c, a]: of cutting what stands before cut c of its model into i blocks, a of them
    # anchors. A block from c to c + w + 1 is either one, which moves on to a + 1, or none.
    best = np.full((k + 1, cells, k + 1), -np.inf)
    best[0, firsts, 0] = 0.0
    for stage in range(1, k + 1):
        for w in range(widths):
            span = cells - w - 1
            before, after = best[stage - 1, :span], best[stage, w + 1 :]
            np.maximum(after, before + other[w, :span, None], out=after)
            np.maximum(after[:, 1:], before[:, :-1] + own[w, :span, None], out=after[:, 1:])
    # total[a]: of the models so far with a anchors in all; a model that joins brings some of them.
    total = np.full(k + 1, -np.inf)
    total[0] = 0.0
    for model in best[k, firsts + problem.depths]:
        joined = np.full(k + 1, -np.inf)
        for anchors in range(k + 1):
            shifted = total[: k + 1 - anchors] + model[anchors]
            joined[anchors:] = np.maximum(joined[anchors:], shifted)
        total = joined
    return float(total.max())


def _scores(problem: PartitionProblem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, as [W, C], the score of each block as an anchor and at most as another block."""
    widths, cells = problem.feasible.shape
    own = np.full((widths, cells), -np.inf)
    other = np.full((widths, cells), -np.inf)
    # peaks[c, m]: the best that any cut of model m does for cut c. A block in another model is
    # served at most by the best start and the best stop there, whether or not they form a block.
    peaks = np.maximum.reduceat(problem.values, problem.offsets, axis=1)
    peaks[np.arange(cells), problem.cut_model] = -np.inf
    diagonal = problem.values.diagonal()
    for w in range(widths):
        starts = np.flatnonzero(problem.feasible[w])
        own[w, starts] = diagonal[starts] + diagonal[starts + w + 1]
        other[w, starts] = (peaks[starts] + peaks[starts + w + 1]).max(axis=1)
    # In its own model an anchor is a block beside it: there all feasible pairs are looked at.
    for first, depth in zip(problem.offsets, problem.depths, strict=True):
        within = slice(int(first), int(first + depth))
        width, start = np.nonzero(problem.feasible[:, within])
        start = start + first
        stop = start + width + 1
        pairs = problem.values[start[:, None], start] + problem.values[stop[:, None], stop]
        apart = (stop[:, None] <= start) | (start[:, None] >= stop)
        inside = np.where(apart, pairs, -np.inf).max(axis=1)
        other[width, start] = np.maximum(other[width, start], inside)
    return own, other
