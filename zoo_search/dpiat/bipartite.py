"""The other matchings of the ablation (DPIAT, appendix B.8, table 12)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo_search.dpiat.alignment import Pairs, Scores
from zoo_search.dpiat.layers import Layer
from zoo_search.dpiat.matching import Match, Matching, layer_scores, match_blocks
from zoo_search.dpiat.standardize import Block


def match_bipartite(target: Sequence[Block], source: Sequence[Block]) -> Matching:
    """Match blocks by the dynamic program, and the layers of two matched blocks without order.

    The layers of a pair of blocks are matched one to one, so that the sum of their scores (Eq. 1)
    is largest. The score of the matching is the sum over all pairs.

    Source: appendix B.8, BipartiteMatching.
    """
    return _collect(target, source, match_blocks(target, source)[1])


def match_blocks_bipartite(target: Sequence[Block], source: Sequence[Block]) -> Matching:
    """Match blocks one to one without order too, by the best sums that their layers reach.

    Source: appendix B.8, NBipartiteMatching.
    """
    # Each pair of blocks is worth the best sum of its layers; the best sum of such pairs is found
    # in the same way, one level up.
    scores = np.array([[_assign(_scores(t, s))[0] for s in source] for t in target])
    return _collect(target, source, _assign(scores)[1])


def match_random(target: Sequence[Block], source: Sequence[Block], seed: int = 0) -> Matching:
    """Match every target layer with any source layer of its type and number of dimensions.

    Each is drawn uniformly, with replacement, in no order. The paper says "completely random"
    only; layers of another type could not be copied at all.

    Source: appendix B.8, RandomMatching.
    """
    generator = np.random.default_rng(seed)
    t_layers = [layer for block in target for layer in block]
    s_layers = [layer for block in source for layer in block]
    scores = _scores(t_layers, s_layers)
    matches = []
    for i, layer in enumerate(t_layers):
        suitable = np.flatnonzero(scores[i])
        if len(suitable):
            j = int(generator.choice(suitable))
            matches.append(Match(layer, s_layers[j], float(scores[i, j])))
    return Matching(sum(m.score for m in matches), tuple(matches))


def _collect(target: Sequence[Block], source: Sequence[Block], block_pairs: Pairs) -> Matching:
    """The bipartite matchings of the layers of pairs of blocks, in the order of the target."""
    matches = []
    for i, j in block_pairs:
        scores = _scores(target[i], source[j])
        for a, b in _assign(scores)[1]:
            matches.append(Match(target[i][a], source[j][b], float(scores[a, b])))
    return Matching(sum(m.score for m in matches), tuple(matches))


def _scores(target: Sequence[Layer], source: Sequence[Layer]) -> Scores:
    return layer_scores([x.signature for x in target], [x.signature for x in source])


def _assign(scores: Scores) -> tuple[float, Pairs]:
    """The one-to-one matching with the largest sum, and that sum; pairs of score 0 left out."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(scores, maximize=True)
    pairs = [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if scores[i, j] > 0]
    return float(scores[rows, columns].sum()), pairs
