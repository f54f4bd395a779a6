"""Similarity of blocks, assignment to anchors, and the objective (DeRy Eq. 2).

Everything works on R independent partitions at once. Blocks of one partition stand in one axis of
length N * K, model after model, stage after stage; a block is a pair of global cut indices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.problem import PartitionProblem

__all__ = [
    "Cuts",
    "State",
    "assign",
    "block_similarity",
    "evaluate",
    "flat_blocks",
    "forcing",
    "served",
]

Cuts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class State:
    """R partitions with their sets.

    Attributes:
        cuts: Global cut indices that bound the blocks, shape [R, N, K + 1].
        sets: Set of each block, shape [R, N * K].
        anchors: Index of each set's anchor among the blocks, shape [R, K].
        objective: Eq. 2, shape [R].
    """

    cuts: Cuts
    sets: NDArray[np.int64]
    anchors: NDArray[np.int64]
    objective: NDArray[np.float64]

    def blocks(self) -> tuple[Cuts, Cuts]:
        """Return starts and stops of the blocks, each of shape [R, N * K]."""
        return flat_blocks(self.cuts)

    def anchor_blocks(self) -> tuple[Cuts, Cuts]:
        """Return starts and stops of the anchors, each of shape [R, K]."""
        starts, stops = self.blocks()
        return (
            np.take_along_axis(starts, self.anchors, 1),
            np.take_along_axis(stops, self.anchors, 1),
        )

    def take(self, rows: NDArray[np.int64]) -> State:
        """Return the partitions at ``rows``."""
        return State(self.cuts[rows], self.sets[rows], self.anchors[rows], self.objective[rows])

    def put(self, rows: NDArray[np.int64], other: State) -> None:
        """Overwrite the partitions at ``rows`` in place."""
        self.cuts[rows] = other.cuts
        self.sets[rows] = other.sets
        self.anchors[rows] = other.anchors
        self.objective[rows] = other.objective


def flat_blocks(cuts: Cuts) -> tuple[Cuts, Cuts]:
    """Return starts and stops, each [R, N * K], of cuts of shape [R, N, K + 1]."""
    return cuts[:, :, :-1].reshape(len(cuts), -1), cuts[:, :, 1:].reshape(len(cuts), -1)


def block_similarity(
    problem: PartitionProblem, starts: Cuts, stops: Cuts, anchor_starts: Cuts, anchor_stops: Cuts
) -> NDArray[np.float64]:
    """Return S(B, B') = s(start, start') + s(stop, stop') (DeRy Definition 3, simplified form).

    The arguments broadcast against each other; the result has their common shape.
    """
    values = problem.values
    return values[starts, anchor_starts] + values[stops, anchor_stops]


def forcing(problem: PartitionProblem) -> float:
    """Return a bonus, exact to add, that outweighs every other choice within one model."""
    span = 8 * problem.k * max(1.0, problem.largest)
    return float(2.0 ** np.ceil(np.log2(span)))


def assign(
    problem: PartitionProblem, cuts: Cuts, anchor_starts: Cuts, anchor_stops: Cuts, keep: bool
) -> NDArray[np.int64]:
    """Return the set of each block, [R, N * K]: that of its best anchor, ties to the lowest set.

    Args:
        problem: With ``one_per_set`` the best assignment of a model's blocks to different sets.
        cuts: Shape [R, N, K + 1].
        anchor_starts: Shape [R, K].
        anchor_stops: Shape [R, K].
        keep: A block that is itself an anchor stays in its own set, whatever the table says.
    """
    starts, stops = flat_blocks(cuts)
    fit = block_similarity(
        problem,
        starts[:, :, None],
        stops[:, :, None],
        anchor_starts[:, None, :],
        anchor_stops[:, None, :],
    )
    if keep:
        own = (starts[:, :, None] == anchor_starts[:, None, :]) & (
            stops[:, :, None] == anchor_stops[:, None, :]
        )
        fit = np.where(own, fit + forcing(problem), fit)
    if not problem.one_per_set:
        return np.asarray(fit.argmax(axis=2), dtype=np.int64)
    runs, k = len(cuts), problem.k
    return _permutations(fit.reshape(runs, -1, k, k)).reshape(runs, -1)


def evaluate(
    problem: PartitionProblem, cuts: Cuts, sets: NDArray[np.int64], anchors: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return Eq. 2, the summed similarity of every block with its set's anchor, shape [R]."""
    fit = served(problem, cuts, sets, anchors)
    return np.asarray(fit.sum(axis=1))


def served(
    problem: PartitionProblem, cuts: Cuts, sets: NDArray[np.int64], anchors: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the similarity of every block with its set's anchor, shape [R, N * K]."""
    starts, stops = flat_blocks(cuts)
    own = np.take_along_axis(anchors, sets, 1)
    return block_similarity(
        problem,
        starts,
        stops,
        np.take_along_axis(starts, own, 1),
        np.take_along_axis(stops, own, 1),
    )


def _permutations(fit: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the best one-to-one assignment [..., K] of K blocks to K sets, fit [..., K, K]."""
    k = fit.shape[-1]
    best = np.full((1 << k, *fit.shape[:-2]), -np.inf)
    last = np.zeros(best.shape, dtype=np.int64)
    best[0] = 0.0
    for mask in range(1, 1 << k):
        stage = mask.bit_count() - 1
        for j in range(k):
            if mask >> j & 1:
                value = best[mask ^ (1 << j)] + fit[..., stage, j]
                better = value > best[mask]
                best[mask][better] = value[better]
                last[mask][better] = j
    result = np.zeros(fit.shape[:-1], dtype=np.int64)
    mask_now = np.full(fit.shape[:-2], (1 << k) - 1, dtype=np.int64)
    for stage in reversed(range(k)):
        chosen = np.take_along_axis(last, mask_now[None], 0)[0]
        result[..., stage] = chosen
        mask_now = mask_now ^ (1 << chosen)
    return result
