"""Partition in one process, without Ray and without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_search.partitions.executor import InProcess
from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.result import Partition
from zoo_search.partitions.search import find_partition
from zoo_search.partitions.shifts import with_shifts

if TYPE_CHECKING:
    from zoo_search.similarities.table import SimilarityTable


def partition(
    table: SimilarityTable,
    k: int = 4,
    eps: float = 0.2,
    restarts: int = 200,
    method: str = "exact",
    seed: int = 0,
    size: str = "nodes",
    one_per_set: bool = True,
    certify: float = 0.0,
    shift: int = 0,
    tolerance: float = 0.1,
) -> Partition:
    """Cut every model of a similarity table into K blocks and group the blocks into K sets.

    Maximises DeRy Eq. 2 under Eqs. 3-5 and, by default, with one block of each model in each set;
    the same arguments give the same sets to the last bit, here and on any cluster. Only how tight
    the upper bound gets depends on the time it is given.

    Example:
        >>> sets = zs.partition(table, k=4, restarts=200)  # doctest: +SKIP
        >>> [block.set for block in sets.blocks if block.model == "resnet18"]  # doctest: +SKIP

    Args:
        table: A ``SimilarityTable``.
        k: Blocks per model, and sets.
        eps: A block stays strictly below ``(1 + eps) |M| / K``.
        restarts: Independent starts; the best one wins.
        method: ``exact`` (dynamic programming inside K-medoids, then a swap search over anchors
            from the best few restarts), ``kl`` (the paper's layer swaps) or ``random`` (random
            cuts, clustered: the ablation).
        seed: Not negative.
        size: What a block's size counts: ``nodes``, ``params`` or ``macs``.
        one_per_set: Put the K blocks of a model into K different sets (K at most 10). Eqs. 3-5
            alone (False) let blocks of one model share a set, and then it cannot stand in for
            every stage. True is the default since DeRy's own code gives blocks of different stages
            the similarity 0, so that its sets are the stages, as its section 4.1 observes.
        certify: Seconds to spend on a tight upper bound; it ends earlier where the bound meets
            the objective. 0: some 300 steps, a second or so; a zoo of hundreds of models gets a
            simple bound.
        shift: Nodes by which the ends of a block may move; then ``shifts`` of the partition holds
            the blocks that stand beside its own (:func:`zoo_search.partitions.shifts.with_shifts`).
        tolerance: How much less similar to the anchor of its set such a block may be.

    Raises:
        UserError: If an argument is out of range, a model has fewer than ``k`` nodes, or no
            partition meets the size limit: the message gives the smallest eps that works.
    """
    problem = from_table(table, k=k, eps=eps, size=size, one_per_set=one_per_set)
    found = find_partition(problem, method, seed, restarts, certify, InProcess(problem))
    return with_shifts(found, table, shift, tolerance)
