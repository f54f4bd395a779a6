"""The partition problem as a value (DeRy section 3.2, Eqs. 2-5): similarities, sizes, K, eps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo_search.errors import UserError, nearest
from zoo_search.partition.lattice import Stage, stages
from zoo_search.partition.limits import check_limits, longest_blocks, size_limit
from zoo_search.partition.similarities import collected, largest_of, quantum_of, round_to

__all__ = ["MAX_K_ONE_PER_SET", "PartitionProblem", "TableLike", "build_problem", "from_table"]

SIZES = ("nodes", "params", "macs")
MAX_K_ONE_PER_SET = 10


class ModelFacts(Protocol):
    """One model of a similarity table: names of its L+1 cuts, sizes of its L nodes."""

    @property
    def cuts(self) -> Sequence[str]: ...
    @property
    def params(self) -> Sequence[int]: ...
    @property
    def macs(self) -> Sequence[int]: ...


class TableLike(Protocol):
    """What the partition needs of a similarity table."""

    @property
    def models(self) -> Mapping[str, Any]:
        """Model name to :class:`ModelFacts`, in the order of the zoo."""

    def block(self, a: str, b: str) -> NDArray[Any]:
        """Return the similarities of every cut of ``a`` (rows) with every cut of ``b``."""


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
        node_names: Names of the nodes, one tuple per model.
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
    node_names: tuple[tuple[str, ...], ...] = field(repr=False)
    quantum: float
    k: int
    eps: float
    size: str
    one_per_set: bool = False

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
    def largest(self) -> float:
        """The largest absolute similarity."""
        return largest_of(self.values)

    @cached_property
    def cut_model(self) -> NDArray[np.int64]:
        """The model that each cut belongs to, shape [C]."""
        return np.repeat(np.arange(len(self.models)), self.depths + 1)


def build_problem(
    models: Sequence[str],
    similarity: Callable[[str, str], NDArray[Any]],
    node_sizes: Sequence[Sequence[int]],
    *,
    k: int,
    eps: float = 0.2,
    size: str = "nodes",
    one_per_set: bool = False,
    node_names: Sequence[Sequence[str]] | None = None,
) -> PartitionProblem:
    """Validate and collect the parts of a partition problem.

    Args:
        models: Distinct names.
        similarity: ``similarity(a, b)`` gives shape [L_a + 1, L_b + 1], finite.
        node_sizes: For each model the sizes of its L nodes, whole and not negative.
        k: Blocks per model and number of sets, from 1 to the depth of the shallowest model.
        eps: Size coefficient, not negative: a block stays strictly below ``(1 + eps) |M| / K``.
        size: The unit of ``node_sizes``: ``nodes``, ``params`` or ``macs``.
        one_per_set: Put the K blocks of a model into K different sets (K at most 10).
        node_names: Names for messages; default: the index.

    Raises:
        UserError: If an argument is out of range, a model has fewer than ``k`` nodes, the size
            limit cannot be met (with the smallest eps that works), or a similarity is not finite.
    """
    _check_arguments(models, k, eps, size, one_per_set)
    sizes = tuple(tuple(int(value) for value in model) for model in node_sizes)
    given = node_names or [[str(i) for i in range(len(model))] for model in sizes]
    names = tuple(tuple(model) for model in given)
    check_limits(models, names, sizes, k, eps, size)
    depths = np.array([len(model) for model in sizes], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(depths + 1)[:-1]]).astype(np.int64)
    values = collected(models, similarity, [int(depth) + 1 for depth in depths])
    quantum = quantum_of(values, len(models), k)
    round_to(values, quantum)
    return PartitionProblem(
        models=tuple(models),
        depths=depths,
        offsets=offsets,
        values=values,
        node_sizes=sizes,
        node_names=names,
        quantum=quantum,
        k=k,
        eps=float(eps),
        size=size,
        one_per_set=one_per_set,
    )


def from_table(
    table: TableLike,
    k: int = 4,
    eps: float = 0.2,
    size: str = "nodes",
    one_per_set: bool = False,
) -> PartitionProblem:
    """Return the partition problem of a similarity table.

    Raises:
        UserError: As :func:`build_problem`.
    """
    models = list(table.models)
    _check_arguments(models, k, eps, size, one_per_set)
    facts = [table.models[name] for name in models]
    return build_problem(
        models,
        table.block,
        [[1] * (len(f.cuts) - 1) if size == "nodes" else list(getattr(f, size)) for f in facts],
        k=k,
        eps=eps,
        size=size,
        one_per_set=one_per_set,
        node_names=[list(f.cuts)[1:] for f in facts],
    )


def _check_arguments(
    models: Sequence[str], k: int, eps: float, size: str, one_per_set: bool
) -> None:
    """Refuse what needs no look at the numbers."""
    if len(models) == 0:
        raise UserError(
            "The similarity table holds no model, so there is nothing to partition. Give the zoo "
            "at least one model and compute the table again."
        )
    if len(set(models)) != len(models):
        raise UserError("Two models of the zoo have the same name. Give each its own name.")
    if k < 1:
        raise UserError(f"'partition.k' is {k}; it is the number of blocks per model, 1 or more.")
    if not (math.isfinite(eps) and eps >= 0):
        raise UserError(f"'partition.eps' is {eps}; give a finite number that is not negative.")
    if size not in SIZES:
        raise UserError(
            f"'partition.size' is '{size}', which is no unit of size.{nearest(size, SIZES)} "
            f"Allowed: {', '.join(SIZES)}."
        )
    if one_per_set and k > MAX_K_ONE_PER_SET:
        raise UserError(
            f"'partition.one_per_set' works up to k = {MAX_K_ONE_PER_SET}, and k is {k}. Choose a "
            "smaller k, or leave one_per_set off."
        )
