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
  (:func:`zoo_search.partition.clustering.reseed`). This may raise or lower the objective.

Where neither helps, the cuts and the assignment are the best for the anchors and the anchors the
best of their sets: a local optimum. The objective never decreases. The search over anchors that
are no medoids of a set is :mod:`zoo_search.partition.swap`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.clustering import reseed
from zoo_search.partition.lattice import Stage, best_paths, masked_values, path_values
from zoo_search.partition.medoids import best_anchors
from zoo_search.partition.objective import Cuts, State, assign, evaluate, forcing
from zoo_search.partition.problem import PartitionProblem

__all__ = ["anchored", "anchored_values", "best_cuts", "climb"]

_ENTRIES = 1 << 16


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
        anchors = before.anchor_blocks()
        after = anchored(problem, *anchors)
        free = _free(problem, *anchors)
        ahead = np.flatnonzero(free.objective > after.objective)
        after.put(ahead, free.take(ahead))
        better = after.objective > before.objective
        state.put(active[better], after.take(np.flatnonzero(better)))
        active = active[better]
    return state, iterations


def anchored(problem: PartitionProblem, anchor_starts: Cuts, anchor_stops: Cuts) -> State:
    """Return the best partitions that hold these anchors, [R, K], with each set's best anchor."""
    cuts = best_cuts(problem, anchor_starts, anchor_stops, keep=True)
    sets = assign(problem, cuts, anchor_starts, anchor_stops, keep=True)
    starts, stops = cuts[:, :, :-1], cuts[:, :, 1:]
    runs = len(cuts)
    present = (starts.reshape(runs, 1, -1) == anchor_starts[:, :, None]) & (
        stops.reshape(runs, 1, -1) == anchor_stops[:, :, None]
    )
    anchors = best_anchors(problem, cuts, sets, present.argmax(axis=2))
    return State(cuts, sets, anchors, evaluate(problem, cuts, sets, anchors))


def _free(problem: PartitionProblem, anchor_starts: Cuts, anchor_stops: Cuts) -> State:
    """Return the best partitions for these anchors, which need not hold them, with new anchors."""
    cuts = best_cuts(problem, anchor_starts, anchor_stops, keep=False)
    sets = assign(problem, cuts, anchor_starts, anchor_stops, keep=False)
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
    cuts = np.empty((runs, len(problem.models), k + 1), dtype=np.int64)
    for n, part in _parts(problem, runs):
        scores = _scores(problem, n, anchor_starts[part], anchor_stops[part], keep)
        place = best_paths(scores, problem.one_per_set)
        firsts = [*(stage.start for stage in problem.lattice[n]), problem.lattice[n][-1].stop]
        cuts[part, n] = place + np.array(firsts)
    return cuts


def anchored_values(
    problem: PartitionProblem, anchor_starts: Cuts, anchor_stops: Cuts
) -> NDArray[np.float64]:
    """Return the objective of the best partition that holds these anchors, each in its set, [R].

    It is -inf where no partition holds all of them.

    Args:
        problem: The problem.
        anchor_starts: Shape [R, K]; the anchors of a row are distinct.
        anchor_stops: Shape [R, K].
    """
    total = np.zeros(len(anchor_starts))
    bonus = forcing(problem)
    values_of = masked_values if problem.one_per_set else _best_set_values
    for n, part in _parts(problem, len(anchor_starts)):
        scores = _scores(problem, n, anchor_starts[part], anchor_stops[part], keep=True)
        held = (problem.cut_model[anchor_starts[part]] == n).sum(axis=1)
        value = values_of(scores) - held * bonus
        value[value < -bonus / 2] = -np.inf  # an anchor is missing
        total[part] += value
    return total


def _best_set_values(scores: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return path_values([stage[0] for stage in scores])


def _parts(problem: PartitionProblem, runs: int) -> Iterator[tuple[int, slice]]:
    """Yield every model with slices of the runs that keep its arrays within the CPU's cache."""
    sets = problem.k if problem.one_per_set else 1
    for n, model in enumerate(problem.lattice):
        at_once = max(1, _ENTRIES // (sets * max(stage.allowed.size for stage in model)))
        for low in range(0, runs, at_once):
            yield n, slice(low, low + at_once)


def _scores(
    problem: PartitionProblem, n: int, anchor_starts: Cuts, anchor_stops: Cuts, keep: bool
) -> list[NDArray[np.float64]]:
    """Return S of every block of a model with every anchor, [J, S, E, R] for each stage.

    J is K with ``one_per_set``; else only the best anchor counts, and J is 1. With ``keep`` the
    anchors in this model score their similarity to themselves and a bonus that outweighs all.
    """
    k = problem.k
    own = slice(int(problem.offsets[n]), int(problem.offsets[n] + problem.depths[n] + 1))
    first = np.ascontiguousarray(anchor_starts.T)
    last = np.ascontiguousarray(anchor_stops.T)
    to_start = problem.values[own].take(first, axis=1)  # [cuts, K, R]
    to_stop = problem.values[own].take(last, axis=1)
    held = np.nonzero(problem.cut_model[first] == n) if keep else None
    found = []
    for stage in problem.lattice[n]:
        near = to_start[stage.start - own.start :][: stage.allowed.shape[0], None]
        far = to_stop[stage.stop - own.start :][: stage.allowed.shape[1]][None]
        if problem.one_per_set:
            scores = np.stack([near[:, :, j] + far[:, :, j] for j in range(k)])
        else:
            scores = near[:, :, 0] + far[:, :, 0]
            for j in range(1, k):
                np.maximum(scores, near[:, :, j] + far[:, :, j], out=scores)
            scores = scores[None]
        stage.bar(scores)
        if held is not None:
            _force(problem, stage, scores, first, last, held)
        found.append(scores)
    return found


def _force(
    problem: PartitionProblem,
    stage: Stage,
    scores: NDArray[np.float64],
    first: Cuts,
    last: Cuts,
    held: tuple[NDArray[np.int64], ...],
) -> None:
    """Set the scores of the anchors at ``held`` of [K, R] that are blocks of this stage."""
    s, e = first[held] - stage.start, last[held] - stage.stop
    inside = (s >= 0) & (s < scores.shape[1]) & (e >= 0) & (e < scores.shape[2])
    s, e, place, run = s[inside], e[inside], held[0][inside], held[1][inside]
    starts, stops = first[place, run], last[place, run]
    value = problem.values[starts, starts] + problem.values[stops, stops]
    if not problem.one_per_set:
        place = np.zeros_like(place)
    scores[place, s, e, run] = value + forcing(problem)
