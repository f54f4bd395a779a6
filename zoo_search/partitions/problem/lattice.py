"""Blocks, those that can stand in a partition (Eqs. 4, 5) by stages, and best paths over them.

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

from zoo_search.partitions.problem.limits import longest_blocks

Cuts = NDArray[np.int64]
Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = slice | Cuts | Mask | tuple[slice | Cuts | Mask | None, ...]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks as pairs of global cuts; indexed like an array.

    Attributes:
        start: First cut of each.
        stop: Last cut of each, of the same shape.
    """

    start: Cuts
    stop: Cuts

    @classmethod
    def of(cls, cuts: Cuts) -> Blocks:
        """Return the blocks [R, N * K] between cuts [R, N, K + 1]: model by model, by stages."""
        return cls(cuts[:, :, :-1].reshape(len(cuts), -1), cuts[:, :, 1:].reshape(len(cuts), -1))

    def __getitem__(self, index: Index) -> Blocks:
        return Blocks(self.start[index], self.stop[index])

    def pick(self, places: Cuts) -> Blocks:
        """Return, of each row of blocks [R, B], those at its places [R, P]."""
        return self[np.arange(len(places))[:, None], places]

    def same(self, other: Blocks) -> Mask:
        """Return where two blocks are one; the shapes broadcast against each other."""
        return np.asarray((self.start == other.start) & (self.stop == other.stop))


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

    def within(self, blocks: Blocks) -> tuple[Cuts, Cuts, Mask]:
        """Return the places [s, e] that blocks would have here, and which of them lie inside."""
        s, e = blocks.start - self.start, blocks.stop - self.stop
        starts, stops = self.allowed.shape
        return s, e, (s >= 0) & (s < starts) & (e >= 0) & (e < stops)

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
    # Forwards: where t blocks end at the latest, each as long as the limit allows. Backwards: the
    # first cut from which so many blocks still reach the end.
    farthest, nearest = [0], [depth]
    for _ in range(k):
        farthest.append(reach[farthest[-1]] if farthest[-1] < depth else depth)
        nearest.append(next((s for s in range(depth) if reach[s] >= nearest[-1]), 0))
    # A block holds a node at least, so that cut t is the first of column t, and L - K + t its last.
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
    # f_t(e) = max over s of f_{t-1}(s) + score_t(s, e); the first column is cut 0 alone.
    best = [np.zeros((1, scores[0].shape[-1]))]
    for stage in scores:
        best.append((best[-1][:, None] + stage).max(axis=0))
    return best


def path_values(scores: Sequence[Scores]) -> NDArray[np.float64]:
    """Return the value of the best path, [R], for the scores of each stage, [S, E, R]."""
    return np.asarray(_columns_of_values(scores)[-1][0])  # the last column is a single cut


def best_values(scores: Sequence[Scores], one_each: bool) -> NDArray[np.float64]:
    """Return the values [R] of the paths that :func:`best_paths` gives."""
    if one_each:
        return np.asarray(_masked(scores)[-1][(1 << len(scores)) - 1][0])
    return path_values([stage[0] for stage in scores])


def path_cuts(scores: Sequence[Scores]) -> Cuts:
    """Return the best path as a place in each column, [R, K + 1]; ties go to the first start."""
    best = _columns_of_values(scores)
    runs, k = scores[0].shape[-1], len(scores)
    place = np.zeros((runs, k + 1), dtype=np.int64)
    each = np.arange(runs)
    # From the end, which is the one cut of the last column: the start that the value came from.
    for t in range(k - 1, -1, -1):
        stop = place[:, t + 1]
        place[:, t] = (best[t] + scores[t][:, stop, each]).argmax(axis=0)
    return place


def best_paths(scores: Sequence[Scores], one_each: bool) -> Cuts:
    """Return the best paths, [R, K + 1], for scores of each set, [J, S, E, R] per stage.

    Args:
        scores: For each stage; J is 1 (the best set's score) or, with ``one_each``, K.
        one_each: The stages of a path take K different sets.
    """
    return assigned_paths(scores)[0] if one_each else path_cuts([stage[0] for stage in scores])


def assigned_paths(scores: Sequence[Scores]) -> tuple[Cuts, Cuts]:
    """Return the best paths whose stages take K different sets, [R, K + 1], and the sets, [R, K].

    Ties go to the lowest set, the last stage first, then to the first start.
    """
    best = _masked(scores)
    runs, k = scores[0].shape[-1], len(scores)
    place = np.zeros((runs, k + 1), dtype=np.int64)
    sets = np.zeros((runs, k), dtype=np.int64)
    mask = np.full(runs, (1 << k) - 1)  # the sets that stages 0 .. t take, all of them in the end
    for t in range(k - 1, -1, -1):
        stop = place[:, t + 1]
        options = np.full((k, scores[t].shape[1], runs), -np.inf)
        for j in range(k):
            # Stage t may take set j where its path has not given it away; the stages before it
            # then take the others. Runs that agree on those read the same table of values.
            has = np.flatnonzero(mask >> j & 1)
            for before in np.unique(mask[has] ^ (1 << j)):
                rows = has[mask[has] ^ (1 << j) == before]
                gained = scores[t][j][:, stop[rows], rows]
                options[j][:, rows] = best[t][int(before)][:, rows] + gained
        choice = options.reshape(-1, runs).argmax(axis=0)  # set and start in one
        sets[:, t], place[:, t] = np.divmod(choice, options.shape[1])
        mask = mask ^ (1 << sets[:, t])
    return place, sets


def _masked(scores: Sequence[Scores]) -> list[dict[int, Scores]]:
    """Return, per column and set of sets used so far, the best value of each cut, [S, R]."""
    k = len(scores)
    # f_t(e, M) = max over s, j in M of f_{t-1}(s, M - j) + score_t(j, s, e): 2^K tables in all,
    # of which column t needs those whose mask M has t bits.
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
