"""Assignment of blocks to anchors, and the objective (DeRy Eq. 2).

Everything works on R independent partitions at once. Blocks of one partition stand in one axis of
length N * K, model after model, stage after stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.lattice import Blocks, Cuts, assigned_paths


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

    @classmethod
    def of(
        cls, problem: PartitionProblem, cuts: Cuts, sets: NDArray[np.int64], anchors: Cuts
    ) -> State:
        """Return partitions with their objective."""
        return cls(cuts, sets, anchors, evaluate(problem, cuts, sets, anchors))

    def anchor_blocks(self) -> Blocks:
        """Return the anchors, [R, K]."""
        return Blocks.of(self.cuts).pick(self.anchors)

    def take(self, rows: NDArray[np.int64]) -> State:
        """Return the partitions at ``rows``."""
        return State(self.cuts[rows], self.sets[rows], self.anchors[rows], self.objective[rows])

    def put(self, rows: NDArray[np.int64], other: State) -> None:
        """Overwrite the partitions at ``rows`` in place."""
        for name, values in vars(self).items():
            values[rows] = getattr(other, name)


def assign(problem: PartitionProblem, cuts: Cuts, anchors: Blocks, keep: bool) -> NDArray[np.int64]:
    """Return the set of each block, [R, N * K]: that of its best anchor, ties to the lowest set.

    Args:
        problem: With ``one_per_set`` the best assignment of a model's blocks to different sets.
        cuts: Shape [R, N, K + 1].
        anchors: Shape [R, K].
        keep: A block that is itself an anchor stays in its own set, whatever the table says.
    """
    blocks, anchors = Blocks.of(cuts)[:, :, None], anchors[:, None, :]
    fit = problem.similarity(blocks, anchors)
    if keep:
        # A bonus for a block's own set; in exact arithmetic it outweighs without rounding the rest.
        fit = np.where(blocks.same(anchors), fit + problem.bonus, fit)
    if not problem.one_per_set:
        return np.asarray(fit.argmax(axis=2), dtype=np.int64)
    # The cuts of a model stand: a path of K stages of one block each, for each run and model.
    by_stage = fit.reshape(-1, problem.k, problem.k).transpose(1, 2, 0)
    return assigned_paths(list(by_stage[:, :, None, None]))[1].reshape(len(cuts), -1)


def evaluate(
    problem: PartitionProblem, cuts: Cuts, sets: NDArray[np.int64], anchors: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return Eq. 2, the summed similarity of every block with its set's anchor, shape [R]."""
    return np.asarray(served(problem, cuts, sets, anchors).sum(axis=1))


def served(
    problem: PartitionProblem, cuts: Cuts, sets: NDArray[np.int64], anchors: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the similarity of every block with its set's anchor, shape [R, N * K]."""
    blocks = Blocks.of(cuts)
    return problem.similarity(blocks, blocks.pick(np.take_along_axis(anchors, sets, 1)))


def members(problem: PartitionProblem, sets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each block lies in each set, [R, K, N * K]."""
    return np.asarray(sets[:, None, :] == np.arange(problem.k)[None, :, None])
