"""The similarities of a problem as one matrix, rounded so that every sum of them is exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo_search.errors import UserError

__all__ = ["collected", "largest_of", "quantum_of", "round_to"]

_QUANTUM_BITS = 30


def collected(
    models: Sequence[str], similarity: Callable[[str, str], NDArray[Any]], cuts: Sequence[int]
) -> NDArray[np.float64]:
    """Return the blocks of all pairs of models as one float64 matrix.

    Args:
        models: Names.
        similarity: ``similarity(a, b)`` gives shape [cuts of a, cuts of b].
        cuts: Cuts of each model.

    Raises:
        UserError: If a block has another shape, or a value is not finite.
    """
    ends = np.cumsum(cuts)
    place = [slice(int(end) - count, int(end)) for end, count in zip(ends, cuts, strict=True)]
    values = np.empty((int(ends[-1]),) * 2)
    for a, rows in zip(models, place, strict=True):
        for b, columns in zip(models, place, strict=True):
            block, target = np.asarray(similarity(a, b)), values[rows, columns]
            if block.shape != target.shape:
                raise UserError(
                    f"The similarities of '{a}' with '{b}' have shape {list(block.shape)}, but the "
                    f"two models have {target.shape[0]} and {target.shape[1]} cuts. Compute the "
                    "similarity table again."
                )
            target[:] = block
        if not np.isfinite(values[rows]).all():
            _refuse(a, values[rows], models, place)
    return values


def _refuse(
    a: str, rows: NDArray[np.float64], models: Sequence[str], place: Sequence[slice]
) -> None:
    """Raise for the first pair of models with a similarity that is not finite."""
    for b, columns in zip(models, place, strict=True):
        block = rows[:, columns]
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            i, j = (int(x) for x in bad[0])
            raise UserError(
                f"The similarity of cut {i} of '{a}' with cut {j} of '{b}' is {block[i, j]}, and "
                f"{len(bad)} in all of these two models are not finite. Compute the similarity "
                "table again; a cut whose features are constant over all images has no CKA."
            )


def quantum_of(values: NDArray[np.float64], models: int, k: int) -> float:
    """Return a power of two such that sums of its multiples over all blocks are exact."""
    largest = max(1.0, largest_of(values))
    # A sum over all blocks reaches 2 * models * k * largest; within one model a solver adds up to
    # k bonuses of at most 16 * k * largest each (objective.forcing).
    headroom = math.ceil(math.log2((2 * models * k + 16 * k * k) * largest)) + 1
    return float(2.0 ** max(-_QUANTUM_BITS, headroom - 52))


def largest_of(values: NDArray[np.float64]) -> float:
    """Return the largest absolute value, without a copy of the table."""
    return max(float(values.max()), -float(values.min()))


def round_to(values: NDArray[np.float64], quantum: float) -> None:
    """Round to multiples of ``quantum`` in place, row by row: a large table is there only once."""
    for row in values:
        np.rint(row / quantum, out=row)
        row *= quantum
