"""Uniformly random feasible partitions: where every restart begins, and the ablation ``random``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.clustering import cluster
from zoo_search.partition.objective import Cuts, State, assign, flat_blocks
from zoo_search.partition.problem import PartitionProblem

__all__ = ["cluster_only", "random_cuts", "random_states"]

_ANY_BLOCKS = 1 / 8


def random_states(problem: PartitionProblem, seeds: NDArray[np.int64]) -> State:
    """Return one random partition per seed: where every method begins.

    Each seed has a generator of its own, from which it draws its cuts (uniform over a model's
    feasible partitions, independent of the other models) and K anchors among its blocks: one of
    each stage, from any model, or, one time in eight, any K blocks. Blocks lie in the sets of their
    best anchors. The objective is given as -inf: anchors are not yet the best of their sets, and
    the first step of any method is taken.
    """
    models, k = len(problem.models), problem.k
    cut_draws = np.empty((len(seeds), models, k))
    anchors = np.empty((len(seeds), k), dtype=np.int64)
    for row, seed in enumerate(seeds):
        generator = np.random.default_rng(int(seed))
        cut_draws[row] = generator.random((models, k))
        if generator.random() < _ANY_BLOCKS:
            anchors[row] = generator.permutation(models * k)[:k]
        else:
            anchors[row] = generator.integers(0, models, k) * k + np.arange(k)
    cuts = random_cuts(problem, cut_draws)
    starts, stops = flat_blocks(cuts)
    sets = assign(
        problem,
        cuts,
        np.take_along_axis(starts, anchors, 1),
        np.take_along_axis(stops, anchors, 1),
        keep=True,
    )
    return State(cuts, sets, anchors, np.full(len(seeds), -np.inf))


def cluster_only(
    problem: PartitionProblem, start: State, patience: int = 0
) -> tuple[State, NDArray[np.int64]]:
    """Cluster the blocks of random partitions and leave the cuts: the ablation ``random``."""
    return cluster(problem, start.cuts, start.anchors), np.zeros(len(start.cuts), dtype=np.int64)


def random_cuts(problem: PartitionProblem, draws: NDArray[np.float64]) -> Cuts:
    """Turn uniform draws in [0, 1), shape [R, N, K], into uniform cuts, [R, N, K + 1], global.

    The ways to finish a model from each cut are counted backwards; a draw then picks the next cut
    in proportion to the ways that it leaves.
    """
    runs, models, k = draws.shape
    widths, cells = problem.feasible.shape
    ends = problem.offsets + problem.depths
    ways = np.zeros((k + 1, cells))
    ways[0, ends] = 1.0
    onward = np.zeros((k + 1, widths, cells))
    for left in range(1, k + 1):
        for w in range(widths):
            span = cells - w - 1
            allowed = problem.feasible[w, :span]
            onward[left, w, :span] = np.where(allowed, ways[left - 1, w + 1 :], 0.0)
        ways[left] = onward[left].sum(axis=0)
    cuts = np.empty((runs, models, k + 1), dtype=np.int64)
    cuts[:, :, 0] = problem.offsets
    for stage in range(k):
        here = cuts[:, :, stage]
        share = onward[k - stage].cumsum(axis=0)[:, here]
        wanted = draws[:, :, stage] * share[-1]
        step = (share <= wanted).sum(axis=0)
        # Rounding may push a draw past the last feasible step: take that one.
        last = widths - 1 - (onward[k - stage][::-1][:, here] > 0).argmax(axis=0)
        cuts[:, :, stage + 1] = here + np.minimum(step, last) + 1
    return cuts
