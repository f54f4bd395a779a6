"""Exact inner partition by dynamic programming over cuts, outer K-medoids (DeRy Eqs. 2-5).

For fixed anchors the models are independent of each other, and each model's best contiguous
K-partition together with its assignment (Eqs. 2-5) follows from a dynamic program over its cuts:
``f_k(stop) = max over start of f_{k-1}(start) + max_j S([start, stop), anchor_j)``. With
``one_per_set`` the state is the set of anchors used so far. All cuts of all models and all
restarts are done in the same array operations.

An iteration takes the better of two steps, if it raises the objective strictly:

- *kept*: the anchors stay blocks of their models and in their own sets, and all else is cut and
  assigned anew; then every set gets its best anchor. This never lowers the objective, and no set
  can become empty. A start with the best anchors of all so reaches the best partition at once.
- *free*: models that hold an anchor may be cut elsewhere, too. A set that has lost all of its
  blocks is seeded again with the block that its anchor serves worst
  (:func:`zoo_search.partition.clustering.reseed`). This may raise or lower the objective.

Where neither helps, the cuts and the assignment are the best for the anchors and the anchors the
best of their sets: a local optimum. The objective never decreases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.clustering import reseed
from zoo_search.partition.objective import Cuts, State, assign, best_anchors, evaluate, forcing
from zoo_search.partition.problem import PartitionProblem

__all__ = ["best_cuts", "climb"]

_CELLS = 1 << 22


def climb(
    problem: PartitionProblem, start: State, patience: int = 0
) -> tuple[State, NDArray[np.int64]]:
    """Return local optima reached from R partitions, and the iterations that each took, [R].

    Args:
        problem: The problem.
        start: R valid partitions; it is not changed.
        patience: Not used: a step that does not help would be repeated unchanged.
    """
    state = start.take(np.arange(len(start.cuts)))
    iterations = np.zeros(len(start.cuts), dtype=np.int64)
    active = np.arange(len(start.cuts))
    while len(active):
        iterations[active] += 1
        before = state.take(active)
        after = _step(problem, before, keep=True)
        free = _step(problem, before, keep=False)
        ahead = np.flatnonzero(free.objective > after.objective)
        after.put(ahead, free.take(ahead))
        better = after.objective > before.objective
        state.put(active[better], after.take(np.flatnonzero(better)))
        active = active[better]
    return state, iterations


def _step(problem: PartitionProblem, state: State, keep: bool) -> State:
    """Return the partitions that are best for the present anchors, with new anchors."""
    anchor_starts, anchor_stops = state.anchor_blocks()
    cuts = best_cuts(problem, anchor_starts, anchor_stops, keep)
    sets = assign(problem, cuts, anchor_starts, anchor_stops, keep)
    if keep:
        starts, stops = cuts[:, :, :-1], cuts[:, :, 1:]
        runs = len(cuts)
        present = (starts.reshape(runs, 1, -1) == anchor_starts[:, :, None]) & (
            stops.reshape(runs, 1, -1) == anchor_stops[:, :, None]
        )
        anchors = best_anchors(problem, cuts, sets, present.argmax(axis=2))
    else:
        first = (sets[:, None, :] == np.arange(problem.k)[None, :, None]).argmax(axis=2)
        anchors = best_anchors(problem, cuts, sets, first)
        sets, anchors = reseed(problem, cuts, sets, anchors)
    return State(cuts, sets, anchors, evaluate(problem, cuts, sets, anchors))


def best_cuts(
    problem: PartitionProblem, anchor_starts: Cuts, anchor_stops: Cuts, keep: bool
) -> Cuts:
    """Return each model's best cuts for fixed anchors, shape [R, N, K + 1], global indices.

    Args:
        problem: The problem.
        anchor_starts: Global start cuts of the anchors, shape [R, K].
        anchor_stops: Global stop cuts of the anchors, shape [R, K].
        keep: Partitions of the anchors' own models must hold the anchors as blocks. They must
            then be blocks of one valid partition.
    """
    runs, k = anchor_starts.shape
    widths, cells = problem.feasible.shape
    layers = (1 << k) + k * widths if problem.one_per_set else k + widths
    at_once = max(1, _CELLS // (cells * layers))
    cuts = np.empty((runs, len(problem.models), k + 1), dtype=np.int64)
    for low in range(0, runs, at_once):
        part = slice(low, low + at_once)
        scores = _scores(problem, anchor_starts[part], anchor_stops[part], keep)
        if problem.one_per_set:
            cuts[part] = _cuts_one_per_set(problem, scores)
        else:
            cuts[part] = _cuts(problem, scores.max(axis=0) if len(scores) > 1 else scores[0])
    return cuts


def _scores(
    problem: PartitionProblem, anchor_starts: Cuts, anchor_stops: Cuts, keep: bool
) -> NDArray[np.float64]:
    """Return S of the block of w + 1 nodes from cut c with anchor j, [K, W, C, R].

    Without ``one_per_set`` only the best anchor counts, and the first axis has length 1. Blocks
    that the size limit forbids score -inf.
    """
    runs, k = anchor_starts.shape
    widths, cells = problem.feasible.shape
    separate = problem.one_per_set
    scores = np.full((k if separate else 1, widths, cells, runs), -np.inf)
    buffer = np.empty((cells, runs))
    for j in range(k):
        start = problem.values[:, anchor_starts[:, j]]
        stop = problem.values[:, anchor_stops[:, j]]
        for w in range(widths):
            span = cells - w - 1
            target = scores[j if separate else 0, w, :span]
            if separate or j == 0:
                np.add(start[:span], stop[w + 1 :], out=target)
            else:
                np.add(start[:span], stop[w + 1 :], out=buffer[:span])
                np.maximum(target, buffer[:span], out=target)
    scores[:, ~problem.feasible] = -np.inf
    if keep:
        columns = np.arange(runs)
        for j in range(k):
            width = anchor_stops[:, j] - anchor_starts[:, j] - 1
            scores[j if separate else 0, width, anchor_starts[:, j], columns] += forcing(problem)
    return scores


def _cuts(problem: PartitionProblem, scores: NDArray[np.float64]) -> Cuts:
    """Return the best cuts, [R, N, K + 1], for scores of shape [W, C, R]."""
    widths, cells, runs = scores.shape
    k, firsts = problem.k, problem.offsets
    best = np.full((k + 1, cells, runs), -np.inf)
    best[0, firsts] = 0.0
    buffer = np.empty((cells, runs))
    for stage in range(1, k + 1):
        for w in range(widths):
            span = cells - w - 1
            np.add(best[stage - 1, :span], scores[w, :span], out=buffer[:span])
            np.maximum(best[stage, w + 1 :], buffer[:span], out=best[stage, w + 1 :])
    cuts = np.empty((runs, len(firsts), k + 1), dtype=np.int64)
    stop = np.repeat((firsts + problem.depths)[:, None], runs, axis=1)
    columns = np.arange(runs)[None, None, :]
    steps = np.arange(widths)[:, None, None]
    cuts[:, :, k] = stop.T
    for stage in range(k, 0, -1):
        start = stop[None] - steps - 1
        inside = np.maximum(start, 0)
        value = best[stage - 1][inside, columns] + scores[steps, inside, columns]
        value[start < firsts[None, :, None]] = -np.inf
        stop = np.take_along_axis(start, value.argmax(axis=0)[None], 0)[0]
        cuts[:, :, stage - 1] = stop.T
    return cuts


def _cuts_one_per_set(problem: PartitionProblem, scores: NDArray[np.float64]) -> Cuts:
    """Return the best cuts with K different sets per model, [R, N, K + 1], scores [K, W, C, R]."""
    k, widths, cells, runs = scores.shape
    firsts = problem.offsets
    best = np.full((1 << k, cells, runs), -np.inf)
    best[0, firsts] = 0.0
    buffer = np.empty((cells, runs))
    for mask in range(1, 1 << k):
        for j in range(k):
            if not mask >> j & 1:
                continue
            before = best[mask ^ (1 << j)]
            for w in range(widths):
                span = cells - w - 1
                np.add(before[:span], scores[j, w, :span], out=buffer[:span])
                np.maximum(best[mask, w + 1 :], buffer[:span], out=best[mask, w + 1 :])
    cuts = np.empty((runs, len(firsts), k + 1), dtype=np.int64)
    stop = np.repeat((firsts + problem.depths)[:, None], runs, axis=1)
    mask_now = np.full(stop.shape, (1 << k) - 1, dtype=np.int64)
    columns = np.arange(runs)[None, None, :]
    steps = np.arange(widths)[:, None, None]
    cuts[:, :, k] = stop.T
    for stage in range(k, 0, -1):
        start = stop[None] - steps - 1
        inside = np.maximum(start, 0)
        outside = start < firsts[None, :, None]
        value = np.full((k, *start.shape), -np.inf)
        for j in range(k):
            free = np.broadcast_to((mask_now >> j & 1 == 0)[None], start.shape)
            before = np.where(mask_now >> j & 1, mask_now ^ (1 << j), 0)[None]
            value[j] = best[before, inside, columns] + scores[j][steps, inside, columns]
            value[j][free | outside] = -np.inf
        choice = value.reshape(k * widths, *stop.shape).argmax(axis=0)
        mask_now = mask_now ^ (1 << (choice // widths))
        stop = np.take_along_axis(start, (choice % widths)[None], 0)[0]
        cuts[:, :, stage - 1] = stop.T
    return cuts
