"""Shape score of a target and a source layer (DPIAT, section 3.2, Eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Signature", "layer_scores"]

Signature = tuple[str, tuple[int, ...]]
"""Kind and shape of a layer: all that its score depends on."""


def layer_scores(target: Sequence[Signature], source: Sequence[Signature]) -> NDArray[np.float64]:
    """Score every target layer with every source layer.

    Eq. 1: the product over the dimensions of ``min(t / s, s / t)``; 0 unless both layers are of
    one kind and have the same number of dimensions.

    Args:
        target: Kind and shape of n layers, no dimension 0.
        source: Kind and shape of m layers, no dimension 0.

    Returns:
        Array ``[n, m]`` of scores in [0, 1], 1 exactly where the shapes agree.
    """
    scores = np.zeros((len(target), len(source)))
    columns = _by_type(source)
    for key, rows in _by_type(target).items():
        if key not in columns:
            continue
        t = np.array([target[i][1] for i in rows], dtype=np.float64).T[:, :, None]
        s = np.array([source[j][1] for j in columns[key]], dtype=np.float64).T[:, None, :]
        ratios = (np.minimum(x, y) / np.maximum(x, y) for x, y in zip(t, s, strict=True))
        scores[np.ix_(rows, columns[key])] = math.prod(ratios)
    return scores


def _by_type(layers: Sequence[Signature]) -> dict[tuple[str, int], list[int]]:
    """Positions of the layers by kind and number of dimensions."""
    groups: dict[tuple[str, int], list[int]] = {}
    for position, (kind, shape) in enumerate(layers):
        groups.setdefault((kind, len(shape)), []).append(position)
    return groups
