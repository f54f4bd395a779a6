"""The dynamic program of DPIAT (section 3.3, Eqs. 2 and 3, Figure 3), on tables of scores.

Cell (i, j) of a table is the best score of the first i target elements with the first j source
elements. It comes from (i, j - 1), from (i - 1, j), or from (k - 1, j - 1) plus the score of
source element j with every suitable target element in the window [k, i]: those with a positive
score, d of them, whose scores are summed and divided by sqrt(d).

What a window is worth depends on the target sequence and one source element only. So these
worths are computed once for all tables, and the tables advance together, source element by source
element, with the tables along the last axes, where numpy is fastest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pairs", "Scores", "Tables", "align", "align_all", "trace_back"]

Scores = NDArray[np.float64]
Pairs = list[tuple[int, int]]
"""Matched (target, source) positions, in order."""

_CHUNK = 400_000  # elements of the largest temporary array
_PADDING = 0.5  # sequences share a batch if the shortest is at least this part of the longest


class Tables:
    """The tables of every target sequence with every source sequence.

    Attributes:
        scores: The best score dp[n, m] of each, ``[len(targets), len(sources)]``.
    """

    def __init__(self, targets: int, sources: int) -> None:
        """Make room for the tables of so many sequences."""
        self.scores: Scores = np.empty((targets, sources))
        self._columns: dict[int, tuple[list[Scores], int]] = {}
        self._places: dict[int, int] = {}

    def add(self, rows: Sequence[int], order: Sequence[int], columns: list[Scores]) -> None:
        """Take in the columns ``[n + 1, sources still running, rows]`` of a batch of tables."""
        self._places.update((source, place) for place, source in enumerate(order))
        for place, row in enumerate(rows):
            self._columns[row] = (columns, place)
        stop = len(order)
        for column, following in zip(columns, (*columns[1:], None), strict=True):
            start = following.shape[1] if following is not None else 0
            if start < stop:  # the last column of these sources
                ended = column[-1, start:stop].T
                self.scores[np.array(rows)[:, None], order[start:stop]] = ended
            stop = start

    def table(self, target: int, source: int, length: int) -> list[list[float]]:
        """Return columns 0 to ``length`` of one table, each with its n + 1 cells."""
        columns, place = self._columns[target]
        at = self._places[source]
        return [column[:, at, place].tolist() for column in columns[: length + 1]]


def align(scores: Scores) -> tuple[float, Pairs]:
    """Align one target sequence with one source sequence (Eqs. 2 and 3), with back-tracking.

    Args:
        scores: Non-negative scores ``[n, m]`` of n target and m source elements.

    Returns:
        The best score dp[n, m], and the matched (target, source) positions in order.
    """
    n, m = scores.shape
    tables = align_all(scores, [range(n)], [range(m)])
    return float(tables.scores[0, 0]), trace_back(scores, tables.table(0, 0, m))


def align_all(
    scores: Scores, targets: Sequence[Sequence[int]], sources: Sequence[Sequence[int]]
) -> Tables:
    """Align every target sequence with every source sequence.

    Args:
        scores: Non-negative scores ``[rows, columns]`` of all elements that occur.
        targets: For each target sequence, the rows of its elements.
        sources: For each source sequence, the columns of its elements.
    """
    padded = np.zeros((scores.shape[0] + 1, scores.shape[1]))
    padded[:-1] = scores
    tables = Tables(len(targets), len(sources))
    order = sorted(range(len(sources)), key=lambda j: -len(sources[j]))
    longest = max(map(len, sources))
    elements = np.array([[*sources[j], *[0] * (longest - len(sources[j]))] for j in order])
    running = [sum(len(source) > j for source in sources) for j in range(longest)]
    for batch in _batches(targets, max(scores.shape[1], len(sources))):
        n = len(targets[batch[0]])
        if n * n * scores.shape[1] > _CHUNK:
            columns = _long_columns(scores[list(targets[batch[0]])], elements, running)
        else:
            rows = [[*targets[i], *[-1] * (n - len(targets[i]))] for i in batch]
            columns = _columns(padded[np.array(rows)], elements, running)
        tables.add(batch, order, columns)
    return tables


def trace_back(scores: Scores, table: Sequence[Sequence[float]]) -> Pairs:
    """Return the pairs that make up the last cell of a table.

    Among equally good matchings, the one with the earliest source elements is taken, and in it
    the shortest windows.

    Args:
        scores: Scores ``[n, m]``.
        table: Columns 0 to m, each with its cells 0 to n (or more: padding).
    """
    values = scores.T.tolist()
    pairs: Pairs = []
    i, j = scores.shape
    while i > 0 and j > 0:
        here, before = table[j][i], table[j - 1]
        if here == before[i]:
            j -= 1
        elif here == table[j][i - 1]:
            i -= 1
        else:
            j -= 1
            k = _window_start(values[j], before, i, here)
            pairs.extend((row, j) for row in range(i - 1, k - 1, -1) if values[j][row] > 0)
            i = k
    return pairs[::-1]


def _window_start(column: Sequence[float], before: Sequence[float], i: int, here: float) -> int:
    """Where the best window that ends before ``i`` starts, counted from 0."""
    total, number, best, start = 0.0, 0, -math.inf, i - 1
    for k in range(i - 1, -1, -1):
        if column[k] > 0:
            total, number = total + column[k], number + 1
            gain = before[k] + total / math.sqrt(number)
            if gain > best:
                best, start = gain, k
                if gain >= here:
                    break
    return start


def _columns(scores: Scores, elements: NDArray[np.int_], running: Sequence[int]) -> list[Scores]:
    """All columns ``[n + 1, sources, a]`` of a target sequences ``[a, n, columns]`` of one length.

    The source sequences come longest first, so that those still running are a prefix.
    """
    worths = _worths(np.ascontiguousarray(scores.transpose(1, 2, 0)))
    columns: list[Scores] = [np.zeros((scores.shape[1] + 1, len(elements), scores.shape[0]))]
    for j, number in enumerate(running):
        gains = worths.take(elements[:number, j], axis=2)
        previous = columns[-1][:, :number]
        gains += previous[:-1, None]
        column = previous.copy()
        np.maximum(column[1:], gains.max(axis=0), out=column[1:])
        columns.append(np.maximum.accumulate(column, axis=0))
    return columns


def _worths(scores: Scores) -> Scores:
    """What windows are worth: scores ``[n, ...]`` -> ``[k, i, ...]``, -inf where k > i."""
    n = len(scores)
    sums = np.empty((n, *scores.shape))
    counts = np.zeros((n + 1, *scores.shape[1:]), dtype=np.intp)
    np.cumsum(scores > 0, axis=0, out=counts[1:])
    roots = _roots(n)
    for k in range(n):
        sums[k, :k] = -np.inf
        np.cumsum(scores[k:], axis=0, out=sums[k, k:])
        sums[k, k:] /= roots[counts[k + 1 :] - counts[k]]
    return sums


def _long_columns(
    scores: Scores, elements: NDArray[np.int_], running: Sequence[int]
) -> list[Scores]:
    """As :func:`_columns` for one long target sequence ``[n, columns]``.

    Only suitable elements start or end a window that gains anything, and there are few in long
    sequences of several layer types.
    """
    suitable = {j: _suitable(scores[:, j]) for j in sorted(set(elements.ravel().tolist()))}
    columns: list[Scores] = [np.zeros((len(scores) + 1, len(elements), 1))]
    for j, number in enumerate(running):
        column = columns[-1][:, :number].copy()
        for source in range(number):
            rows, worths = suitable[int(elements[source, j])]
            if len(rows):
                gains = _best_gains(column[rows, source, 0], worths)
                column[rows + 1, source, 0] = np.maximum(column[rows + 1, source, 0], gains)
        columns.append(np.maximum.accumulate(column, axis=0))
    return columns


def _suitable(column: Scores) -> tuple[NDArray[np.intp], Scores]:
    """The rows with a positive score, and these scores."""
    rows = np.flatnonzero(column)
    return rows, column[rows]


def _best_gains(before: Scores, scores: Scores) -> Scores:
    """The best window that ends at each of n suitable elements, with what came before it."""
    n = len(scores)
    windows, roots = _triangle(n)
    gains = np.cumsum(windows * scores, axis=1)
    gains /= roots
    gains += before[:, None]
    np.copyto(gains, -np.inf, where=~windows)
    best: Scores = gains.max(axis=0)
    return best


@lru_cache(maxsize=8)
def _triangle(n: int) -> tuple[NDArray[np.bool_], Scores]:
    """Which (k, i) are windows, and the square roots of their lengths."""
    lengths = np.arange(n)[None, :] - np.arange(n)[:, None] + 1
    return lengths > 0, np.sqrt(np.maximum(lengths, 1))


@lru_cache(maxsize=64)
def _roots(n: int) -> Scores:
    """Square roots of 0 to n, with 1 for 0."""
    return np.sqrt(np.maximum(np.arange(n + 1), 1.0))


def _batches(targets: Sequence[Sequence[int]], width: int) -> Iterator[list[int]]:
    """Positions of sequences of similar length, longest first, in batches of bounded size."""
    batch: list[int] = []
    for i in sorted(range(len(targets)), key=lambda i: -len(targets[i])):
        if batch:
            n = len(targets[batch[0]])
            full = (len(batch) + 1) * width * n * n > _CHUNK
            if full or len(targets[i]) < _PADDING * n:
                yield batch
                batch = []
        batch.append(i)
    yield batch
