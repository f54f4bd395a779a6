"""Matching: the two phases of DPIAT (section 3.3).

Phase 1 aligns the layers of every pair of blocks, phase 2 the blocks, by the dynamic program of
:mod:`zoo_search.dpiat.alignment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo_search.dpiat.alignment import Pairs, Scores, Tables, align, align_all, trace_back
from zoo_search.dpiat.layers import Layer
from zoo_search.dpiat.score import Signature, layer_scores
from zoo_search.dpiat.standardize import Block

__all__ = ["Match", "Matching", "match", "match_blocks", "match_score"]


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
    blocks = _BlockPairs(target, source)
    score, block_pairs = align(blocks.scores)
    matches = []
    for i, j in block_pairs:
        scores, pairs = blocks.layers(i, j)
        for a, b in pairs:
            matches.append(Match(target[i][a], source[j][b], scores[a][b]))
    return Matching(score, tuple(matches))


def match_score(target: Sequence[Block], source: Sequence[Block]) -> float:
    """Return the score of the best matching, dp[n, m], without the matching itself."""
    scores = _BlockPairs(target, source).scores
    n, m = scores.shape
    return float(align_all(scores, [range(n)], [range(m)]).scores[0, 0])


def match_blocks(target: Sequence[Block], source: Sequence[Block]) -> Pairs:
    """Return the (target, source) positions of the blocks that :func:`match` pairs."""
    return align(_BlockPairs(target, source).scores)[1]


class _BlockPairs:
    """Phase 1: every pair of blocks, aligned; equal blocks once.

    Attributes:
        scores: Score of every pair of blocks, ``[len(target), len(source)]``.
    """

    def __init__(self, target: Sequence[Block], source: Sequence[Block]) -> None:
        t_layers, self._targets, self._t_of = _distinct(target)
        s_layers, self._sources, self._s_of = _distinct(source)
        self._layer_scores = layer_scores(t_layers, s_layers)
        self._tables: Tables = align_all(self._layer_scores, self._targets, self._sources)
        self.scores: Scores = self._tables.scores[self._t_of][:, self._s_of]
        self._known: dict[tuple[int, int], tuple[list[list[float]], Pairs]] = {}

    def layers(self, i: int, j: int) -> tuple[list[list[float]], Pairs]:
        """Scores of the layers of target block ``i`` and source block ``j``, and their pairs."""
        key = self._t_of[i], self._s_of[j]
        if key not in self._known:
            rows, columns = self._targets[key[0]], self._sources[key[1]]
            scores = self._layer_scores[list(rows)][:, list(columns)]
            table = self._tables.table(*key, len(columns))
            self._known[key] = scores.tolist(), trace_back(scores, table)
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
