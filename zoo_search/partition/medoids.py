"""The anchor of each set: the block in it with the largest summed similarity (DeRy section 3.2).

All pairs of blocks of a set are a quadratic number in the number of models. Up to 40 models they
are summed; beyond that every block is first judged by the members of its set from 16 models, spread
evenly, and only the best few are summed over the whole set, so that time grows linearly. The answer
of a partition is settled over all pairs in the end (:mod:`zoo_search.partition.polish`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.objective import Cuts, block_similarity, flat_blocks
from zoo_search.partition.problem import PartitionProblem

__all__ = ["best_anchors"]

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
    starts, stops = flat_blocks(cuts)
    runs, blocks = starts.shape
    summed = thorough or len(problem.models) <= _MODELS_SUMMED
    rows = blocks if summed else _MODELS_SAMPLED * problem.k + _FINALISTS
    at_once = max(1, _PAIRS_AT_ONCE // (blocks * rows))
    choose = _among_all if summed else _among_finalists
    anchors = current.copy()
    for low in range(0, runs, at_once):
        part = slice(low, low + at_once)
        anchors[part] = choose(problem, starts[part], stops[part], sets[part], anchors[part])
    return anchors


def _among_all(
    problem: PartitionProblem,
    starts: Cuts,
    stops: Cuts,
    sets: NDArray[np.int64],
    current: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Compare all blocks of every set."""
    pairs = block_similarity(
        problem, starts[:, :, None], stops[:, :, None], starts[:, None], stops[:, None]
    )
    member = _members(problem, sets)
    sums = np.where(member, member.astype(np.float64) @ pairs, -np.inf)
    held = np.take_along_axis(sums, current[:, :, None], 2)[:, :, 0]
    return np.where(sums.max(axis=2) > held, sums.argmax(axis=2), current)


def _among_finalists(
    problem: PartitionProblem,
    starts: Cuts,
    stops: Cuts,
    sets: NDArray[np.int64],
    current: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Compare the current anchor with the blocks of each set that a sample of members favours."""
    member = _members(problem, sets)
    favoured = np.where(member, _favour(problem, starts, stops, sets)[:, None], -np.inf)
    finalists = np.argpartition(favoured, -_FINALISTS, axis=2)[:, :, -_FINALISTS:]
    finalists = np.concatenate([current[:, :, None], np.sort(finalists, axis=2)], axis=2)
    runs = np.arange(len(starts))[:, None]
    judges = finalists[runs, sets]  # [R, blocks, finalists of the block's own set]
    rows = runs[:, :, None]
    pairs = block_similarity(
        problem, starts[:, :, None], stops[:, :, None], starts[rows, judges], stops[rows, judges]
    )
    sums = member.astype(np.float64) @ pairs
    sums[~np.take_along_axis(member, finalists, 2)] = -np.inf
    choice = np.take_along_axis(finalists, sums.argmax(axis=2)[:, :, None], 2)[:, :, 0]
    return np.where(member.any(axis=2), choice, current)


def _favour(
    problem: PartitionProblem, starts: Cuts, stops: Cuts, sets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the summed similarity of each block with the sampled members of its set, [R, NK]."""
    models, k = len(problem.models), problem.k
    chosen = np.arange(_MODELS_SAMPLED) * models // _MODELS_SAMPLED
    sample = (chosen[:, None] * k + np.arange(k)).ravel()
    pairs = block_similarity(
        problem,
        starts[:, sample, None],
        stops[:, sample, None],
        starts[:, None],
        stops[:, None],
    )
    pairs *= sets[:, sample, None] == sets[:, None]
    return np.asarray(pairs.sum(axis=1))


def _members(problem: PartitionProblem, sets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each block lies in each set, [R, K, blocks]."""
    return np.asarray(sets[:, None, :] == np.arange(problem.k)[None, :, None])
