"""Exact inner partition by dynamic programming over cuts, outer K-medoids (DeRy Eqs. 2-5).

For fixed anchors the models are independent of each other, and each model's best contiguous
K-partition together with its assignment (Eqs. 2-5) follows from a dynamic program over its cuts:
``f_k(stop) = max over start of f_{k-1}(start) + max_j S([start, stop), anchor_j)``. With
``one_per_set`` the state is the set of anchors used so far. All cuts of a model and all restarts
are done in the same array operations.

An iteration takes the better of two steps, if it raises the objective strictly:

- *kept*: the anchors stay blocks of their models and in their own sets, and all else is cut and
  assigned anew; then every set gets its best anchor. This never lowers the objective, and no set
  can become empty. A start with the best anchors of all so reaches the best partition at once.
- *free*: models that hold an anchor may be cut elsewhere, too. A set that has lost all of its
  blocks is seeded again with the block that its anchor serves worst
  (:func:`zoo_search.partitions.solvers.medoids.reseed`). This may raise or lower the objective.

Where neither helps, the cuts and the assignment are the best for the anchors and the anchors the
best of their sets: a local optimum. The objective never decreases. The search over anchors that
are no medoids of a set is :mod:`zoo_search.partitions.solvers.polish`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.lattice import Blocks, Cuts, Stage, best_paths, best_values
from zoo_search.partitions.problem.objective import State, assign, members
from zoo_search.partitions.solvers.medoids import best_anchors, reseed

_ENTRIES = 1 << 16


def climb(problem: PartitionProblem, start: State) -> tuple[State, NDArray[np.int64]]:
    """Return local optima reached from R valid partitions, and the iterations of each, [R]."""
    active = np.arange(len(start.cuts))
    state = start.take(active)
    iterations = np.zeros(len(active), dtype=np.int64)
    while len(active):
        iterations[active] += 1
        before = state.take(active)
        anchors = before.anchor_blocks()
        after = anchored(problem, anchors)
        free = _free(problem, anchors)
        freer = np.flatnonzero(free.objective > after.objective)
        after.put(freer, free.take(freer))
        better = after.objective > before.objective
        state.put(active[better], after.take(np.flatnonzero(better)))
        active = active[better]
    return state, iterations


def anchored(problem: PartitionProblem, anchors: Blocks) -> State:
    """Return the best partitions that hold these anchors, [R, K], with each set's best anchor."""
    cuts = best_cuts(problem, anchors, keep=True)
    sets = assign(problem, cuts, anchors, keep=True)
    present = Blocks.of(cuts)[:, None, :].same(anchors[:, :, None])
    return State.of(problem, cuts, sets, best_anchors(problem, cuts, sets, present.argmax(axis=2)))


def _free(problem: PartitionProblem, anchors: Blocks) -> State:
    """Return the best partitions for these anchors, which need not hold them, with new anchors."""
    cuts = best_cuts(problem, anchors, keep=False)
    sets = assign(problem, cuts, anchors, keep=False)
    first = members(problem, sets).argmax(axis=2)
    sets, found = reseed(problem, cuts, sets, best_anchors(problem, cuts, sets, first))
    return State.of(problem, cuts, sets, found)


def best_cuts(problem: PartitionProblem, anchors: Blocks, keep: bool) -> Cuts:
    """Return each model's best cuts for fixed anchors, [R, K], as global cuts, [R, N, K + 1].

    With ``keep``, partitions of the anchors' own models must hold the anchors as blocks. They must
    then be blocks of one valid partition.
    """
    runs, k = anchors.start.shape
    cuts = np.empty((runs, len(problem.models), k + 1), dtype=np.int64)
    for n, rows in _slices(problem, runs):
        place = best_paths(_scores(problem, n, anchors[rows], keep), problem.one_per_set)
        firsts = [*(stage.start for stage in problem.lattice[n]), problem.lattice[n][-1].stop]
        cuts[rows, n] = place + np.array(firsts)
    return cuts


def anchored_values(problem: PartitionProblem, anchors: Blocks) -> NDArray[np.float64]:
    """Return the objective of the best partition that holds distinct anchors, each in its set, [R].

    It is -inf where no partition holds all of them.
    """
    total = np.zeros(len(anchors.start))
    # Each anchor on the path of its model adds a bonus, which is taken off again: a model whose
    # best path lacks one of its anchors is far below zero then, and no such partition exists.
    for n, rows in _slices(problem, len(total)):
        scores = _scores(problem, n, anchors[rows], keep=True)
        held = (problem.cut_model[anchors.start[rows]] == n).sum(axis=1)
        value = best_values(scores, problem.one_per_set) - held * problem.bonus
        value[value < -problem.bonus / 2] = -np.inf
        total[rows] += value
    return total


def _slices(problem: PartitionProblem, runs: int) -> Iterator[tuple[int, slice]]:
    """Yield every model with slices of the runs that keep its arrays within the CPU's cache."""
    sets = problem.k if problem.one_per_set else 1
    for n, model in enumerate(problem.lattice):
        at_once = max(1, _ENTRIES // (sets * max(stage.allowed.size for stage in model)))
        for low in range(0, runs, at_once):
            yield n, slice(low, low + at_once)


def _scores(
    problem: PartitionProblem, n: int, anchors: Blocks, keep: bool
) -> list[NDArray[np.float64]]:
    """Return S of every block of a model with every anchor, [J, S, E, R] for each stage.

    J is K with ``one_per_set``; else only the best anchor counts, and J is 1. With ``keep`` the
    anchors in this model score their similarity to themselves and a bonus that outweighs all.
    """
    k = problem.k
    of_set = Blocks(np.ascontiguousarray(anchors.start.T), np.ascontiguousarray(anchors.stop.T))
    held = np.nonzero(problem.cut_model[of_set.start] == n) if keep else None
    found = []
    for stage in problem.lattice[n]:
        # S(B, b) is a sum of one term a cut: near over the starts, far over the stops.
        near = problem.values[stage.rows].take(of_set.start, axis=1)[:, None]  # [S, 1, K, R]
        far = problem.values[stage.columns].take(of_set.stop, axis=1)[None]
        if problem.one_per_set:
            scores = np.stack([near[:, :, j] + far[:, :, j] for j in range(k)])
        else:
            scores = near[:, :, 0] + far[:, :, 0]
            for j in range(1, k):
                np.maximum(scores, near[:, :, j] + far[:, :, j], out=scores)
            scores = scores[None]
        stage.bar(scores)
        if held is not None:
            _force(problem, stage, scores, of_set[held], *held)
        found.append(scores)
    return found


def _force(
    problem: PartitionProblem,
    stage: Stage,
    scores: NDArray[np.float64],
    anchors: Blocks,
    place: NDArray[np.int64],
    run: NDArray[np.int64],
) -> None:
    """Set the scores of those anchors, of sets ``place`` in runs ``run``, that this stage has."""
    # An anchor counts with its similarity to itself, whatever another anchor would give it, since
    # it stays in its own set. The bonus makes every path through it better than any past it.
    s, e, inside = stage.within(anchors)
    value = problem.similarity(anchors, anchors) + problem.bonus
    place = place if problem.one_per_set else np.zeros_like(place)
    scores[place[inside], s[inside], e[inside], run[inside]] = value[inside]
