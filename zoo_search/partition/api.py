"""Partition in one process, without Ray and without a run."""

from __future__ import annotations

import numpy as np

from zoo_search.partition.bound import upper_bound
from zoo_search.partition.check import check
from zoo_search.partition.lagrange import lagrangian_bound, quick_bound
from zoo_search.partition.objective import served
from zoo_search.partition.polish import polish
from zoo_search.partition.problem import PartitionProblem, TableLike, from_table
from zoo_search.partition.restarts import Restarts, restart_seeds, run_restarts
from zoo_search.partition.result import Anchor, Partition, PartitionBlock, RestartRecord

__all__ = ["finish", "partition"]


def partition(
    table: TableLike,
    k: int = 4,
    eps: float = 0.2,
    restarts: int = 200,
    method: str = "exact",
    seed: int = 0,
    size: str = "nodes",
    one_per_set: bool = False,
    certify: float = 0.0,
) -> Partition:
    """Cut every model of a similarity table into K blocks and group the blocks into K sets.

    Maximises DeRy Eq. 2 under Eqs. 3-5; the same arguments give the same sets to the last bit,
    here and on any cluster. Only how tight the upper bound gets depends on the time it is given.

    Example:
        >>> parts = zs.partition(table, k=4, restarts=200)  # doctest: +SKIP
        >>> [block.set for block in parts.blocks if block.model == "resnet18"]  # doctest: +SKIP

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
        one_per_set: Put the K blocks of a model into K different sets (K at most 10).
        certify: Seconds to spend on a tight upper bound; it ends earlier where the bound meets
            the objective. 0: some 300 steps, a second or so; a zoo of hundreds of models gets a
            simple bound.

    Raises:
        UserError: If an argument is out of range, a model has fewer than ``k`` nodes, or no
            partition meets the size limit: the message gives the smallest eps that works.
    """
    problem = from_table(table, k=k, eps=eps, size=size, one_per_set=one_per_set)
    found = polish(problem, method, run_restarts(problem, method, restart_seeds(seed, restarts)))
    best = float(found.best.objective[0])
    if certify > 0:
        return finish(problem, method, found, lagrangian_bound(problem, best, certify).value)
    return finish(problem, method, found, quick_bound(problem, best))


def finish(
    problem: PartitionProblem, method: str, found: Restarts, bound: float | None = None
) -> Partition:
    """Return the winner with names, sets in order of depth, its upper bound, and checked.

    Args:
        problem: The problem.
        method: The method, for the record.
        found: All restarts.
        bound: An upper bound on the objective; default: the simple one.

    Raises:
        ValueError: If the winner breaks a constraint, which is a fault of the solver.
    """
    state = found.best
    fit = served(problem, state.cuts, state.sets, state.anchors)[0]
    local = state.cuts[0] - problem.offsets[:, None]
    k = problem.k
    middle = ((local[:, :-1] + local[:, 1:]) / (2 * problem.depths[:, None])).ravel()
    sets = state.sets[0]
    depth = [float(np.mean(middle[sets == j])) for j in range(k)]
    order = sorted(range(k), key=lambda j: (depth[j], int(state.anchors[0, j])))
    blocks = tuple(
        PartitionBlock(
            model=name,
            start=int(local[n, stage]),
            stop=int(local[n, stage + 1]),
            stage=stage,
            set=order.index(int(sets[n * k + stage])),
            similarity=float(fit[n * k + stage]),
        )
        for n, name in enumerate(problem.models)
        for stage in range(k)
    )
    central = [blocks[int(state.anchors[0, j])] for j in order]
    result = Partition(
        k=k,
        eps=problem.eps,
        size=problem.size,
        method=method,
        objective=float(state.objective[0]),
        upper_bound=upper_bound(problem) if bound is None else bound,
        anchors=tuple(Anchor(block.model, block.start, block.stop) for block in central),
        blocks=blocks,
        restarts=tuple(
            RestartRecord(int(seed), float(objective), int(iterations))
            for seed, objective, iterations in zip(
                found.seeds, found.objectives, found.iterations, strict=True
            )
        ),
    )
    check(problem, result)
    return result
