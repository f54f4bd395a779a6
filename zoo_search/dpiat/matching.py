"""Matching: the shape score of layers and the two phases of DPIAT (sections 3.2 and 3.3).

Phase 1 aligns the layers of every pair of blocks, phase 2 the blocks, by the dynamic program of
:mod:`zoo_search.dpiat.alignment`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo_search.dpiat.alignment import Pairs, Scores, align, align_all, trace_back
from zoo_search.dpiat.layers import Layer, Signature
from zoo_search.dpiat.standardize import Block


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
    elements is taken. Source: section 3.3.
    """
    blocks = _BlockPairs(target, source)
    score, block_pairs = align(blocks.scores)
    matches = []
    for i, j in block_pairs:
        scores, pairs = blocks.layers(i, j)
        for a, b in pairs:
            matches.append(Match(target[i][a], source[j][b], scores[a][b]))
    return Matching(score, tuple(matches))


def match_blocks(target: Sequence[Block], source: Sequence[Block]) -> tuple[float, Pairs]:
    """Return the score of :func:`match` and the (target, source) positions of its blocks."""
    return align(_BlockPairs(target, source).scores)


def layer_scores(target: Sequence[Signature], source: Sequence[Signature]) -> Scores:
    """Score every one of n target layers with every one of m source layers: ``[n, m]`` in [0, 1].

    Eq. 1: the product over the dimensions, none of them 0, of ``min(t / s, s / t)``, which is 1
    exactly where the shapes agree; 0 unless both layers are of one kind and have the same number
    of dimensions.
    """
    scores = np.zeros((len(target), len(source)))
    # Positions of target and source layers by kind and number of dimensions.
    groups: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
    for side, layers in enumerate((target, source)):
        for position, (kind, shape) in enumerate(layers):
            groups.setdefault((kind, len(shape)), ([], []))[side].append(position)
    for rows, columns in groups.values():
        if rows and columns:
            # One axis a dimension of the weights, then [n, 1] against [1, m]: all pairs at once.
            t = np.array([target[i][1] for i in rows], dtype=np.float64).T[:, :, None]
            s = np.array([source[j][1] for j in columns], dtype=np.float64).T[:, None, :]
            ratios = (np.minimum(x, y) / np.maximum(x, y) for x, y in zip(t, s, strict=True))
            scores[np.ix_(rows, columns)] = math.prod(ratios)
    return scores


class _BlockPairs:
    """Phase 1: every pair of blocks, aligned; equal blocks once.

    Attributes:
        scores: Score of every pair of blocks, ``[len(target), len(source)]``.
    """

    def __init__(self, target: Sequence[Block], source: Sequence[Block]) -> None:
        # Networks repeat themselves, and equal kinds and shapes have equal scores: each distinct
        # pair of blocks is aligned once, and its score put wherever it occurs.
        t_layers, self._targets, self._t_of = _distinct(target)
        s_layers, self._sources, self._s_of = _distinct(source)
        self._layer_scores = layer_scores(t_layers, s_layers)
        self._tables = align_all(self._layer_scores, self._targets, self._sources)
        self.scores: Scores = self._tables.scores[self._t_of][:, self._s_of]
        self._known: dict[tuple[int, int], tuple[list[list[float]], Pairs]] = {}

    def layers(self, i: int, j: int) -> tuple[list[list[float]], Pairs]:
        """Scores of the layers of target block ``i`` and source block ``j``, and their pairs."""
        key = self._t_of[i], self._s_of[j]
        if key not in self._known:
            rows, columns = self._targets[key[0]], self._sources[key[1]]
            scores = self._layer_scores[list(rows)][:, list(columns)]
            self._known[key] = scores.tolist(), trace_back(scores, self._tables.table(*key))
        return self._known[key]


def _distinct(
    blocks: Sequence[Block],
) -> tuple[list[Signature], list[tuple[int, ...]], list[int]]:
    """The distinct layers, the distinct blocks of them, and for each block which of them it is."""
    layers: dict[Signature, int] = {}
    seen: dict[tuple[int, ...], int] = {}
    which = []
    for block in blocks:
        key = tuple(layers.setdefault(layer.signature, len(layers)) for layer in block)
        which.append(seen.setdefault(key, len(seen)))
    return list(layers), list(seen), which
