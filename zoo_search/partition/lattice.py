"""The blocks that can stand in a partition (Eqs. 4, 5), stage by stage, and best paths over them.

A K-partition of a model is a path through K + 1 columns: column t holds the cuts at which t blocks
may end, an interval. A block of stage t runs from a cut of column t to one of column t + 1. With
the usual ``eps`` of 0.2 the columns are short, so that this is a small part of all blocks.

Arrays over the blocks of a stage have the shape [S, E, R]: start, stop, and R problems at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.limits import longest_blocks

__all__ = ["Stage", "best_paths", "columns", "path_cuts", "path_values", "stages"]

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stage:
    """The blocks that a model may have at one stage.

    Attributes:
        start: First global cut of the column where these blocks start.
        stop: First global cut of the column where they stop.
        allowed: Whether the block from ``start + s`` to ``stop + e`` holds a node and respects the
            size limit, shape [S, E].
    """

    start: int
    stop: int
    allowed: NDArray[np.bool_]

    @property
    def rows(self) -> slice:
        """The global cuts at which blocks start."""
        return slice(self.start, self.start + self.allowed.shape[0])

    @property
    def columns(self) -> slice:
        """The global cuts at which blocks stop."""
        return slice(self.stop, self.stop + self.allowed.shape[1])

    def bar(self, scores: Scores) -> None:
        """Set the scores [..., S, E, R] of blocks that are not allowed to -inf, in place."""
        if not self.allowed.all():
            scores[..., ~self.allowed, :] = -np.inf


def columns(sizes: Sequence[int], k: int, limit: Fraction) -> list[tuple[int, int]]:
    """Return the first and last cut of each of the K + 1 columns of a model that has a partition.

    A cut lies in column t if t blocks lead to it and K - t blocks lead on to the end.
    """
    depth = len(sizes)
    reach = longest_blocks(sizes, limit)
    farthest, nearest = [0], [depth]
    for _ in range(k):
        farthest.append(reach[farthest[-1]] if farthest[-1] < depth else depth)
        nearest.append(next((s for s in range(depth) if reach[s] >= nearest[-1]), 0))
    return [
        (max(t, nearest[k - t]) if t < k else depth, min(farthest[t], depth - k + t))
        for t in range(k + 1)
    ]


def stages(offset: int, sizes: Sequence[int], k: int, limit: Fraction) -> tuple[Stage, ...]:
    """Return the K stages of a model whose cut 0 has the global index ``offset``."""
    bounds = columns(sizes, k, limit)
    reach = np.array([*longest_blocks(sizes, limit), len(sizes)])
    found = []
    for (low, high), (first, last) in pairwise(bounds):
        start, stop = np.arange(low, high + 1)[:, None], np.arange(first, last + 1)[None]
        allowed = (start < stop) & (stop <= reach[start])
        found.append(Stage(offset + low, offset + first, allowed))
    return tuple(found)


def _columns_of_values(scores: Sequence[Scores]) -> list[Scores]:
    """Return the best value of reaching each cut of each column, each [S, R]."""
    best = [np.zeros((1, scores[0].shape[-1]))]
    for stage in scores:
        best.append((best[-1][:, None] + stage).max(axis=0))
    return best


def path_values(scores: Sequence[Scores]) -> NDArray[np.float64]:
    """Return the value of the best path, [R], for the scores of each stage, [S, E, R]."""
    if len(scores) > 1:  # the last column is a single cut: no need to keep it
        head = _columns_of_values(scores[:-1])[-1]
        return np.asarray((head + scores[-1][:, 0]).max(axis=0))
    return np.asarray(scores[0][0, 0])


def path_cuts(scores: Sequence[Scores]) -> NDArray[np.int64]:
    """Return the best path as a place in each column, [R, K + 1]; ties go to the first start."""
    best = _columns_of_values(scores)
    runs, k = scores[0].shape[-1], len(scores)
    place = np.zeros((runs, k + 1), dtype=np.int64)
    each = np.arange(runs)
    for t in range(k - 1, -1, -1):
        stop = place[:, t + 1]
        place[:, t] = (best[t] + scores[t][:, stop, each]).argmax(axis=0)
    return place


def best_paths(scores: Sequence[Scores], one_each: bool) -> NDArray[np.int64]:
    """Return the best paths, [R, K + 1], for scores of each set, [J, S, E, R] per stage.

    Args:
        scores: For each stage; J is 1 (the best set's score) or, with ``one_each``, K.
        one_each: The stages of a path take K different sets.
    """
    if not one_each:
        return path_cuts([stage[0] for stage in scores])
    best = _masked(scores)
    runs, k = scores[0].shape[-1], len(scores)
    place = np.zeros((runs, k + 1), dtype=np.int64)
    mask = np.full(runs, (1 << k) - 1)
    for t in range(k - 1, -1, -1):
        stop = place[:, t + 1]
        options = np.full((k, scores[t].shape[1], runs), -np.inf)
        for j in range(k):
            has = np.flatnonzero(mask >> j & 1)
            for before in np.unique(mask[has] ^ (1 << j)):
                rows = has[mask[has] ^ (1 << j) == before]
                gained = scores[t][j][:, stop[rows], rows]
                options[j][:, rows] = best[t][int(before)][:, rows] + gained
        choice = options.reshape(-1, runs).argmax(axis=0)
        place[:, t] = choice % options.shape[1]
        mask = mask ^ (1 << (choice // options.shape[1]))
    return place


def masked_values(scores: Sequence[Scores]) -> NDArray[np.float64]:
    """Return the value of the best path whose stages take K different sets, [R]."""
    k = len(scores)
    return np.asarray(_masked(scores)[k][(1 << k) - 1][0])


def _masked(scores: Sequence[Scores]) -> list[dict[int, Scores]]:
    """Return, per column and set of sets used so far, the best value of each cut, [S, R]."""
    k = len(scores)
    best: list[dict[int, Scores]] = [{0: np.zeros((1, scores[0].shape[-1]))}]
    for t in range(k):
        onward: dict[int, Scores] = {}
        for mask, value in best[t].items():
            for j in range(k):
                if mask >> j & 1:
                    continue
                new = (value[:, None] + scores[t][j]).max(axis=0)
                held = onward.get(mask | 1 << j)
                onward[mask | 1 << j] = new if held is None else np.maximum(held, new, out=held)
        best.append(onward)
    return best
