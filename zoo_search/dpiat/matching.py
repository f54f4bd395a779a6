"""Matching: the two-phase dynamic program of DPIAT (section 3.3, Eqs. 2 and 3, Figure 3).

Cell (i, j) of a table is the best score of the first i target elements with the first j source
elements. It comes from (i, j - 1), from (i - 1, j), or from (k - 1, j - 1) plus the score of
source element j with every suitable target element in [k, i]: those with a positive score, d of
them, whose scores are summed and divided by sqrt(d). Phase 1 runs it on the layers of every pair
of blocks, phase 2 on the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo_search.dpiat.layers import Layer
from zoo_search.dpiat.score import Signature, layer_scores, signature
from zoo_search.dpiat.standardize import Block

__all__ = ["Match", "Matching", "align", "match", "match_score"]

Scores = NDArray[np.float64]
_CHUNK = 2_000_000  # elements of the largest temporary array


@dataclass(frozen=True)
class Match:
    """A target layer with the source layer that fills it, and their score (Eq. 1)."""

    target: Layer
    source: Layer
    score: float


@dataclass(frozen=True)
class Matching:
    """The matching of two networks: its score, and its pairs in the order of the target."""

    score: float
    matches: tuple[Match, ...]


def match(target: Sequence[Block], source: Sequence[Block]) -> Matching:
    """Match the layers of two standardized networks, with back-tracking.

    No two matches cross, every target layer has at most one source layer, and one source layer
    may fill several target layers. Among equally good matchings, the one with the earliest source
    elements is taken.

    Args:
        target: Blocks of the target.
        source: Blocks of the source.

    Source: section 3.3.
    """
    block_scores = _block_scores(target, source)
    score, block_pairs = align(block_scores)
    matches = []
    for i, j in block_pairs:
        scores = layer_scores(
            [signature(layer) for layer in target[i]], [signature(layer) for layer in source[j]]
        )
        for a, b in align(scores)[1]:
            matches.append(Match(target[i][a], source[j][b], float(scores[a, b])))
    return Matching(score, tuple(matches))


def match_score(target: Sequence[Block], source: Sequence[Block]) -> float:
    """Return the score of the best matching, dp[n, m], without the matching itself."""
    return float(_table(_block_scores(target, source)[None, None])[-1][0, 0, -1])


def align(scores: Scores) -> tuple[float, list[tuple[int, int]]]:
    """Align one target sequence with one source sequence (Eqs. 2 and 3).

    Args:
        scores: Non-negative scores ``[n, m]`` of n target and m source elements.

    Returns:
        The best score dp[n, m], and the matched (target, source) positions in order.
    """
    n, m = scores.shape
    table = np.stack([column[0, 0] for column in _table(scores[None, None])], axis=1)
    pairs: list[tuple[int, int]] = []
    i, j = n, m
    while i > 0 and j > 0:
        if table[i, j] == table[i, j - 1]:
            j -= 1
        elif table[i, j] == table[i - 1, j]:
            i -= 1
        else:
            gains = table[:n, j - 1, None] + _window_scores(scores[:, j - 1])
            k = i - 1 - int(np.argmax(gains[:i, i - 1][::-1]))
            pairs.extend((row, j - 1) for row in range(i - 1, k - 1, -1) if scores[row, j - 1] > 0)
            i, j = k, j - 1
    return float(table[n, m]), pairs[::-1]


def _window_scores(column: Scores) -> Scores:
    """Scores ``[..., n]`` of n target elements with one source -> ``[..., k, i]`` over [k, i].

    The sum over the suitable elements in the window divided by the square root of their number;
    minus infinity where k > i.
    """
    n = column.shape[-1]
    windows = np.triu(np.ones((n, n), dtype=bool))
    sums = np.where(windows, column[..., None, :], 0.0)
    np.cumsum(sums, axis=-1, out=sums)
    counts = np.zeros((*column.shape[:-1], n + 1))
    np.cumsum(column > 0, axis=-1, out=counts[..., 1:])
    number = counts[..., None, 1:] - counts[..., :-1, None]
    sums /= np.sqrt(np.maximum(number, 1.0))
    return np.where(windows, sums, -np.inf)


def _table(scores: Scores) -> list[Scores]:
    """Columns 0 to m of the tables of a batch: scores ``[b, a, n, m]`` -> m + 1 of [b, a, n+1]."""
    b, a, n, m = scores.shape
    columns: list[Scores] = [np.zeros((b, a, n + 1))]
    for j in range(m):
        columns.append(_advance(columns[-1], scores[..., j]))
    return columns


def _advance(previous: Scores, column: Scores) -> Scores:
    """The next column ``[..., n + 1]`` of a table from the previous one and scores [..., n]."""
    result = previous.copy()
    gains = (previous[..., :-1, None] + _window_scores(column)).max(axis=-2)
    np.maximum(result[..., 1:], gains, out=result[..., 1:])
    return np.maximum.accumulate(result, axis=-1)


def _block_scores(target: Sequence[Block], source: Sequence[Block]) -> Scores:
    """Phase 1: the score of every pair of blocks, ``[len(target), len(source)]``."""
    t_blocks, t_of = _distinct(target)
    s_blocks, s_of = _distinct(source)
    t_layers = sorted({layer for block in t_blocks for layer in block})
    s_layers = sorted({layer for block in s_blocks for layer in block})
    scores = np.pad(layer_scores(t_layers, s_layers), ((0, 0), (0, 1)))
    t_at = {layer: i for i, layer in enumerate(t_layers)}
    s_at = {layer: j for j, layer in enumerate(s_layers)}
    order = sorted(range(len(s_blocks)), key=lambda j: -len(s_blocks[j]))
    lengths = np.array([len(s_blocks[j]) for j in order])
    columns = np.full((len(order), int(lengths[0])), len(s_layers))
    for row, j in enumerate(order):
        columns[row, : lengths[row]] = [s_at[layer] for layer in s_blocks[j]]
    result = np.empty((len(t_blocks), len(s_blocks)))
    for rows in _by_length(t_blocks, len(s_blocks)):
        positions = np.array([[t_at[layer] for layer in t_blocks[i]] for i in rows])
        result[np.ix_(rows, order)] = _final_cells(scores, positions, columns, lengths).T
    return result[np.ix_(t_of, s_of)]


def _final_cells(
    scores: Scores, rows: NDArray[np.int_], columns: NDArray[np.int_], lengths: NDArray[np.int_]
) -> Scores:
    """Last cells of the tables of a target blocks of one length with b source blocks, ``[b, a]``.

    The source blocks come longest first, so that the ones still running are a prefix.
    """
    state = np.zeros((len(columns), len(rows), rows.shape[1] + 1))
    for j in range(columns.shape[1]):
        running = int((lengths > j).sum())
        column = scores[rows[None, :, :], columns[:running, j, None, None]]
        state[:running] = _advance(state[:running], column)
    return state[..., -1]


def _distinct(
    blocks: Sequence[Block],
) -> tuple[list[tuple[Signature, ...]], list[int]]:
    """The distinct blocks by kinds and shapes, and for each block which of them it is."""
    seen: dict[tuple[Signature, ...], int] = {}
    which = [seen.setdefault(tuple(map(signature, block)), len(seen)) for block in blocks]
    return list(seen), which


def _by_length(blocks: Sequence[tuple[Signature, ...]], width: int) -> list[list[int]]:
    """Positions of blocks of equal length, in groups that keep temporary arrays small."""
    groups: dict[int, list[int]] = {}
    for position, block in enumerate(blocks):
        groups.setdefault(len(block), []).append(position)
    result: list[list[int]] = []
    for length, positions in groups.items():
        step = max(1, _CHUNK // (width * length * length))
        result.extend(positions[i : i + step] for i in range(0, len(positions), step))
    return result
