"""Uniformly random feasible partitions: where every restart begins, and the ablation ``random``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.lattice import Blocks, Cuts
from zoo_search.partitions.problem.objective import State, assign
from zoo_search.partitions.solvers.medoids import cluster_blocks

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
    sets = assign(problem, cuts, Blocks.of(cuts).pick(anchors), keep=True)
    return State(cuts, sets, anchors, np.full(len(seeds), -np.inf))


def cluster_only(problem: PartitionProblem, start: State) -> tuple[State, NDArray[np.int64]]:
    """Cluster the blocks of random partitions and leave the cuts: the ablation ``random``."""
    iterations = np.zeros(len(start.cuts), dtype=np.int64)
    return cluster_blocks(problem, start.cuts, start.anchors), iterations


def random_cuts(problem: PartitionProblem, draws: NDArray[np.float64]) -> Cuts:
    """Turn uniform draws in [0, 1), shape [R, N, K], into uniform cuts, [R, N, K + 1], global.

    The ways to finish a model from each cut are counted backwards; a draw then picks the next cut
    in proportion to the ways that it leaves.
    """
    runs, models, k = draws.shape
    widths, cells = problem.feasible.shape
    ends = problem.offsets + problem.depths
    # ways[i, c]: partitions of what follows cut c into i blocks; onward[i, w, c]: those of them
    # whose first block holds w + 1 nodes. Cut 0 of a model sees all of its partitions.
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
        # A step is chosen with the share of the partitions that go on with it, so that in the end
        # each partition has the same chance: the shares of its steps multiply to 1 / all ways.
        share = onward[k - stage].cumsum(axis=0)[:, here]
        wanted = draws[:, :, stage] * share[-1]
        step = (share <= wanted).sum(axis=0)
        # Rounding may push a draw past the last feasible step: take that one.
        last = widths - 1 - (onward[k - stage][::-1][:, here] > 0).argmax(axis=0)
        cuts[:, :, stage + 1] = here + np.minimum(step, last) + 1
    return cuts
