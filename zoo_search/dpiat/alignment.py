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

Scores = NDArray[np.float64]
Pairs = list[tuple[int, int]]
"""Matched (target, source) positions, in order."""

_CHUNK = 400_000  # elements of the largest temporary array
_PADDING = 0.5  # sequences share a batch if the shortest is at least this part of the longest


class Tables:
    """The tables of every target sequence with every source sequence.

    Attributes:
        scores: The best score dp[n, m] of each, ``[len(targets), len(sources)]``.
        order: The sources, longest first, as they stand in columns.
    """

    def __init__(self, targets: int, sources: Sequence[Sequence[int]]) -> None:
        self.scores: Scores = np.empty((targets, len(sources)))
        self._lengths = [len(source) for source in sources]
        self.order = sorted(range(len(sources)), key=lambda j: -self._lengths[j])
        self._columns: dict[int, tuple[list[Scores], int]] = {}

    def add(self, rows: Sequence[int], columns: list[Scores]) -> None:
        """Take in the columns ``[n + 1, sources still running, rows]`` of a batch of tables."""
        # A source of m elements ends with column m: cell n there is its score. Rows shorter than n
        # are padded with scores of 0, which add nothing.
        last = [columns[self._lengths[j]][-1, place] for place, j in enumerate(self.order)]
        self.scores[np.ix_(rows, self.order)] = np.stack(last, axis=1)
        for place, row in enumerate(rows):
            self._columns[row] = (columns, place)

    def table(self, target: int, source: int) -> list[list[float]]:
        """Return the columns 0 to m of one table, each with its n + 1 cells."""
        columns, place = self._columns[target]
        at = self.order.index(source)
        return [column[:, at, place].tolist() for column in columns[: self._lengths[source] + 1]]


def align(scores: Scores) -> tuple[float, Pairs]:
    """Return the best score dp[n, m] of one target with one source sequence, and the pairs.

    The scores ``[n, m]`` of their elements are not negative (Eqs. 2 and 3).
    """
    n, m = scores.shape
    tables = align_all(scores, [range(n)], [range(m)])
    return float(tables.scores[0, 0]), trace_back(scores, tables.table(0, 0))


def align_all(
    scores: Scores, targets: Sequence[Sequence[int]], sources: Sequence[Sequence[int]]
) -> Tables:
    """Align every target sequence with every source sequence.

    The scores ``[rows, columns]`` are those of all elements that occur; a target sequence is the
    rows of its elements, a source sequence the columns.
    """
    # Row -1 of the padded scores is zero: what shorter target sequences of a batch are filled up
    # with. Sources are filled up with element 0, whose columns are never read.
    padded = np.zeros((scores.shape[0] + 1, scores.shape[1]))
    padded[:-1] = scores
    tables = Tables(len(targets), sources)
    longest = max(map(len, sources))
    elements = np.array([[*sources[j], *[0] * (longest - len(sources[j]))] for j in tables.order])
    running = [sum(len(source) > j for source in sources) for j in range(longest)]
    for batch in _batches(targets, max(scores.shape[1], len(sources))):
        n = len(targets[batch[0]])
        if n * n * scores.shape[1] > _CHUNK:
            columns = _long_columns(scores[list(targets[batch[0]])], elements, running)
        else:
            rows = [[*targets[i], *[-1] * (n - len(targets[i]))] for i in batch]
            columns = _columns(padded[np.array(rows)], elements, running)
        tables.add(batch, columns)
    return tables


def trace_back(scores: Scores, table: Sequence[Sequence[float]]) -> Pairs:
    """Return the pairs that make up the last cell of a table of scores ``[n, m]``.

    The table has columns 0 to m, each with its cells 0 to n (or more: padding). Among equally good
    matchings, the one with the earliest source elements is taken, and in it the shortest windows.
    """
    values = scores.T.tolist()
    pairs: Pairs = []
    i, j = scores.shape
    while i > 0 and j > 0:
        # A cell that equals the one before it in the source, or else in the target, was taken over
        # from there; only a larger one is the end of a window [k, i).
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
    # Windows grow backward. Floating point may sum in another order than the tables did, so the
    # largest gain is kept, and the search ends early where one reaches the cell's own value.
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
    # worths[k, i, c, t]: what the window [k, i] of target t is worth to source element c. Column j
    # takes the best of three (Eq. 3): source element j unused (a copy of column j - 1); it matches
    # a window that ends with i, on top of the k elements before it (the maximum over k of gains);
    # target element i unused (the running maximum along i, at the end).
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
    # For each start k the running sum of scores over the square root of how many are positive
    # (Eq. 2). counts[i + 1] - counts[k] is that number in [k, i].
    n = len(scores)
    sums = np.empty((n, *scores.shape))
    counts = np.zeros((n + 1, *scores.shape[1:]), dtype=np.intp)
    np.cumsum(scores > 0, axis=0, out=counts[1:])
    roots = np.sqrt(np.maximum(np.arange(n + 1), 1))
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
    suitable = {j: np.flatnonzero(scores[:, j]) for j in set(elements.ravel().tolist())}
    columns: list[Scores] = [np.zeros((len(scores) + 1, len(elements), 1))]
    for j, number in enumerate(running):
        column = columns[-1][:, :number].copy()
        for source in range(number):
            # Cell i + 1 ends a window at element i; before it stand the first k elements: cell k.
            element = int(elements[source, j])
            rows = suitable[element]
            if len(rows):
                gains = _best_gains(column[rows, source, 0], scores[rows, element])
                column[rows + 1, source, 0] = np.maximum(column[rows + 1, source, 0], gains)
        columns.append(np.maximum.accumulate(column, axis=0))
    return columns


def _best_gains(before: Scores, scores: Scores) -> Scores:
    """The best window that ends at each of n suitable elements, with what came before it."""
    # gains[k, i]: the scores of the suitable elements k to i, all positive, over sqrt(i - k + 1),
    # on top of the best before element k. Where k > i there is no window.
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


def _batches(targets: Sequence[Sequence[int]], width: int) -> Iterator[list[int]]:
    """Positions of sequences of similar length, longest first, in batches of bounded size."""
    batch: list[int] = []
    for i in sorted(range(len(targets)), key=lambda i: -len(targets[i])):
        if batch:
            n = len(targets[batch[0]])
            # The largest temporary array is that of the worths, n × n × width for each target.
            full = (len(batch) + 1) * width * n * n > _CHUNK
            if full or len(targets[i]) < _PADDING * n:
                yield batch
                batch = []
        batch.append(i)
    yield batch
