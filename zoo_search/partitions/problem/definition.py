"""The partition problem as a value (DeRy section 3.2, Eqs. 2-5): similarities, sizes, K, eps."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo_search.core.errors import UserError, require
from zoo_search.partitions.problem.lattice import Blocks, Stage, stages
from zoo_search.partitions.problem.limits import check_limits, longest_blocks, size_limit

if TYPE_CHECKING:
    from zoo_search.similarities.table import SimilarityTable

_SIZES = ("nodes", "params", "macs")
_MAX_K_ONE_PER_SET = 10
_QUANTUM_BITS = 30


@dataclass(frozen=True, eq=False)
class PartitionProblem:
    """A validated partition problem; cuts of all models stand one after the other.

    Attributes:
        models: Names, N of them.
        depths: Nodes per model, L_n, shape [N].
        offsets: Index of each model's cut 0 among all C = sum(L_n + 1) cuts, shape [N].
        values: Similarity of cut c (row) with cut d (column), shape [C, C], float64.
            Rounded to multiples of a power of two (1e-9 or finer for values in [-1, 1] and any
            zoo of sensible size), so that every sum of them is exact: order of summation, chunks
            and machines cannot change a result, and ties are ties.
        node_sizes: Sizes of the nodes in the unit ``size``, one tuple per model.
        quantum: The power of two that all values are multiples of.
        k: Blocks per model, and sets.
        eps: Size coefficient of Eq. 5.
        size: What a block's size counts: ``nodes``, ``params`` or ``macs``.
        one_per_set: Whether the blocks of a model must lie in K different sets.
    """

    models: tuple[str, ...]
    depths: NDArray[np.int64]
    offsets: NDArray[np.int64]
    values: NDArray[np.float64] = field(repr=False)
    node_sizes: tuple[tuple[int, ...], ...] = field(repr=False)
    quantum: float
    k: int
    eps: float
    size: str
    one_per_set: bool = True

    @cached_property
    def feasible(self) -> NDArray[np.bool_]:
        """Whether the block of ``w + 1`` nodes from cut ``c`` is allowed, shape [W, C].

        W is the largest number of nodes in an allowed block. A block is allowed if it stays inside
        its model and strictly below the size limit (Eq. 5).
        """
        reach = np.zeros(len(self.values), dtype=np.int64)
        for offset, sizes in zip(self.offsets, self.node_sizes, strict=True):
            stops = longest_blocks(sizes, size_limit(sum(sizes), self.k, self.eps))
            reach[offset : offset + len(sizes)] = np.asarray(stops) - np.arange(len(sizes))
        longest = int((self.depths - self.k + 1).max())
        widths = np.arange(1, min(int(reach.max()), longest) + 1)
        return np.asarray(widths[:, None] <= reach[None, :])

    @cached_property
    def lattice(self) -> tuple[tuple[Stage, ...], ...]:
        """The blocks that can stand in a partition: for each model its K stages."""
        return tuple(
            stages(int(offset), sizes, self.k, size_limit(sum(sizes), self.k, self.eps))
            for offset, sizes in zip(self.offsets, self.node_sizes, strict=True)
        )

    @cached_property
    def blocks(self) -> Blocks:
        """All blocks that a partition can have, each once, [B]."""
        pairs = [
            np.argwhere(stage.allowed) + np.array([[stage.start, stage.stop]])
            for model in self.lattice
            for stage in model
        ]
        found = np.unique(np.concatenate(pairs), axis=0)
        return Blocks(found[:, 0], found[:, 1])

    @cached_property
    def largest(self) -> float:
        """The largest absolute similarity."""
        return _largest(self.values)

    @cached_property
    def bonus(self) -> float:
        """A bonus, exact to add, that outweighs every other choice within one model."""
        return float(2.0 ** np.ceil(np.log2(8 * self.k * max(1.0, self.largest))))

    @cached_property
    def cut_model(self) -> NDArray[np.int64]:
        """The model that each cut belongs to, shape [C]."""
        return np.repeat(np.arange(len(self.models)), self.depths + 1)

    def similarity(self, blocks: Blocks, anchors: Blocks) -> NDArray[np.float64]:
        """Return S(B, B') = s(start, start') + s(stop, stop') (DeRy Definition 3, simplified form).

        The arguments broadcast against each other; the result has their common shape.
        """
        return self.values[blocks.start, anchors.start] + self.values[blocks.stop, anchors.stop]


def from_table(
    table: SimilarityTable,
    k: int = 4,
    eps: float = 0.2,
    size: str = "nodes",
    one_per_set: bool = True,
) -> PartitionProblem:
    """Return the partition problem of a similarity table, validated.

    The arguments are those of :func:`zoo_search.partitions.api.partition`.

    Raises:
        UserError: If an argument is out of range, a model has fewer than ``k`` nodes, the size
            limit cannot be met (with the smallest eps that works), or a similarity is not finite.
    """
    models = tuple(table.models)
    _check_arguments(models, k, eps, size, one_per_set)
    facts = table.models.values()
    sizes = tuple(
        (1,) * len(model) if size == "nodes" else tuple(getattr(model, size)) for model in facts
    )
    check_limits(models, [model.cuts[1:] for model in facts], sizes, k, eps, size)
    _check_finite(table)
    depths = np.array([len(model) for model in facts], dtype=np.int64)
    values = table.values.astype(np.float64)
    quantum = _quantum(values, len(models), k)
    for row in values:  # in place, so that a large table is there only once
        np.rint(row / quantum, out=row)
        row *= quantum
    return PartitionProblem(
        models=models,
        depths=depths,
        offsets=np.concatenate([[0], np.cumsum(depths + 1)[:-1]]).astype(np.int64),
        values=values,
        node_sizes=sizes,
        quantum=quantum,
        k=k,
        eps=float(eps),
        size=size,
        one_per_set=one_per_set,
    )


def _check_arguments(
    models: tuple[str, ...], k: int, eps: float, size: str, one_per_set: bool
) -> None:
    """Refuse what needs no look at the numbers."""
    if not models:
        raise UserError(
            "The similarity table holds no model, so there is nothing to partition. Give the zoo "
            "at least one model and compute the table again."
        )
    if k < 1:
        raise UserError(f"'partition.k' is {k}; it is the number of blocks per model, 1 or more.")
    if not (math.isfinite(eps) and eps >= 0):
        raise UserError(f"'partition.eps' is {eps}; give a finite number that is not negative.")
    require(size, _SIZES, f"'partition.size' is '{size}', which is no unit of size.")
    if one_per_set and k > _MAX_K_ONE_PER_SET:
        raise UserError(
            f"'partition.k' is {k}, and the blocks of a model can be given different sets, as is "
            f"the default, only up to k = {_MAX_K_ONE_PER_SET}. Choose a smaller k, or "
            "'one_per_set: false' (--no-one-per-set), where blocks of a model may share a set."
        )


def _check_finite(table: SimilarityTable) -> None:
    """Refuse a table with a value that is no finite number; name the first pair of cuts."""
    if np.isfinite(table.values).all():
        return
    for a, b in itertools.product(table.models, repeat=2):
        bad = np.argwhere(~np.isfinite(table.block(a, b)))
        if len(bad):
            i, j = (int(x) for x in bad[0])
            raise UserError(
                f"The similarity of cut {i} of '{a}' with cut {j} of '{b}' is "
                f"{table.block(a, b)[i, j]}, and {len(bad)} in all of these two models are not "
                "finite. Compute the similarity table again; a cut whose features are constant "
                "over all images has no CKA."
            )


def _quantum(values: NDArray[np.float64], models: int, k: int) -> float:
    """Return a power of two such that sums of its multiples over all blocks are exact."""
    largest = max(1.0, _largest(values))
    # A sum over all blocks reaches 2 * models * k * largest; within one model a solver adds up to
    # k bonuses of at most 16 * k * largest each.
    headroom = math.ceil(math.log2((2 * models * k + 16 * k * k) * largest)) + 1
    return float(2.0 ** max(-_QUANTUM_BITS, headroom - 52))


def _largest(values: NDArray[np.float64]) -> float:
    """Return the largest absolute value, without a copy of the table."""
    return max(float(values.max()), -float(values.min()))
