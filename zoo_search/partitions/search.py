"""The one way from a problem to its partition, wherever the restarts run."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from zoo_search.core.progress import Bar
from zoo_search.partitions.bounds.lagrange import lagrangian_bound, quick_bound
from zoo_search.partitions.bounds.simple import upper_bound
from zoo_search.partitions.check import check
from zoo_search.partitions.executor import InProcess
from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.objective import served
from zoo_search.partitions.result import Anchor, Partition, PartitionBlock, RestartRecord
from zoo_search.partitions.solvers.polish import finalists, improve, polish
from zoo_search.partitions.solvers.restarts import Restarts, Seeds, restart_seeds, run_restarts

_AT_ONCE = 25  # restarts of one array operation
Watch = Callable[[str, int], AbstractContextManager[Bar]]


def _silently(title: str, total: int) -> AbstractContextManager[Bar]:
    """Show no progress: what stands in for :func:`zoo_search.core.progress.progress`."""
    return nullcontext(Bar(title, total))


def find_partition(
    problem: PartitionProblem,
    method: str,
    seed: int,
    count: int,
    certify: float,
    executor: InProcess,
    watch: Watch = _silently,
) -> Partition:
    """Return the best partition of ``count`` restarts, with an upper bound, checked.

    The arguments are those of :func:`zoo_search.partitions.api.partition`, the ``executor`` of the
    restarts, and what shows progress.

    Raises:
        UserError: If the method is unknown, there is no restart, or the seed is negative.
    """
    found = find_restarts(problem, method, restart_seeds(seed, count), executor, watch)
    best = float(found.best.objective[0])
    certified = certify > 0
    bound = _certified(problem, best, certify, watch) if certified else quick_bound(problem, best)
    return finish(problem, method, found, bound)


def find_restarts(
    problem: PartitionProblem,
    method: str,
    seeds: Seeds,
    executor: InProcess | None = None,
    watch: Watch = _silently,
) -> Restarts:
    """Run the restarts with these seeds, by default in this process, and improve the best few."""
    executor = executor or InProcess(problem)
    with watch("partition", len(seeds)) as bar:
        found = executor.run(run_restarts, method, seeds, _AT_ONCE, _noted(bar))
    chosen = finalists(method, found)
    with watch("from the best restarts", len(chosen)) as bar:
        return improve(found, executor.run(polish, method, chosen, 1, _noted(bar)))


def _noted(bar: Bar) -> Callable[[Restarts], None]:
    """Return what reports finished restarts with the best objective so far."""
    best = -np.inf

    def note(share: Restarts) -> None:
        nonlocal best
        best = max(best, float(share.objectives.max()))
        bar.advance(len(share.seeds), note=f"best objective {best:.4f}")

    return note


def _certified(problem: PartitionProblem, best: float, seconds: float, watch: Watch) -> float:
    """Return an upper bound, showing how far the answer may be from the best."""
    told, total = 0, math.ceil(seconds)
    with watch("upper bound", total) as bar:

        def note(spent: float, bound: float) -> None:
            nonlocal told
            new = min(int(spent), total) - told
            if new > 0:
                bar.advance(new, note=f"gap {(bound - best) / max(abs(bound), 1e-12):.3%}")
                told += new

        return lagrangian_bound(problem, best, seconds, note).value


def finish(
    problem: PartitionProblem, method: str, found: Restarts, bound: float | None = None
) -> Partition:
    """Return the winner of all restarts with names, sets in order of depth, and checked.

    The upper bound on its objective is by default the simple one.

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
    records = (x.tolist() for x in (found.seeds, found.objectives, found.iterations))
    result = Partition(
        k=k,
        eps=problem.eps,
        size=problem.size,
        method=method,
        objective=float(state.objective[0]),
        upper_bound=upper_bound(problem) if bound is None else bound,
        anchors=tuple(Anchor(block.model, block.start, block.stop) for block in central),
        blocks=blocks,
        restarts=tuple(map(RestartRecord, *records)),
    )
    check(problem, result)
    return result
