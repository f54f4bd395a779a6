"""Where restarts run: in this process, or on the processes of a run. The answers are the same.

A restart is a pure function of the problem and its seed, and its arithmetic is exact
(:class:`~.problem.definition.PartitionProblem`), so no way to share restarts out can change them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from zoo_search import cluster
from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.solvers.restarts import Restarts, Seeds, merge

if TYPE_CHECKING:
    from zoo_search.cluster.actors import ActorPool
    from zoo_search.cluster.hosts import Hosts

Work = Callable[[PartitionProblem, str, Seeds], Restarts]
"""``work(problem, method, seeds)``: :func:`~.restarts.run_restarts` or :func:`~.polish.polish`."""

Note = Callable[[Restarts], None]
_SECONDS = 2.0  # that a share takes, so that progress is seen
_WORTH = 4.0
_CALLS_PER_HOST = 4


class InProcess:
    """Runs restarts in this process, a few at a time."""

    def __init__(self, problem: PartitionProblem) -> None:
        self._problem = problem

    def run(self, work: Work, method: str, seeds: Seeds, most: int, note: Note) -> Restarts:
        """Return what the work gives for the seeds, in their order.

        At most so many restarts run at once; ``note`` hears of each share of them as it is done.
        """
        done: list[Restarts] = []
        begun, ran = time.perf_counter(), 0
        while ran < len(seeds):
            rate = (time.perf_counter() - begun) / ran if ran else 0.0
            rest = self._elsewhere(work, method, seeds[ran:], most, rate, note)
            if rest is not None:
                return merge([*done, *rest])
            length = min(most, max(1, int(_SECONDS / rate))) if rate else most
            done.append(work(self._problem, method, seeds[ran : ran + length]))
            note(done[-1])
            ran += length
        return merge(done)

    def _elsewhere(
        self, work: Work, method: str, seeds: Seeds, most: int, rate: float, note: Note
    ) -> list[Restarts] | None:
        """Return what the rest gives if it runs elsewhere, at so many seconds a restart here."""
        return None


class OnHosts(InProcess):
    """Restarts on hosts, once what is left would take longer than these need to start.

    A context, which gives the hosts back in the end.

    Args:
        problem: Sent once; hosts of one node share its table in memory.
        workers: How many hosts; default: one a CPU of the cluster.
        hosts: Those of the run; default: some for this block alone.
        worth: Seconds of work left from which on hosts are used, where a cluster is connected.
    """

    def __init__(
        self,
        problem: PartitionProblem,
        workers: int | None = None,
        hosts: Hosts | None = None,
        worth: float = _WORTH,
    ) -> None:
        super().__init__(problem)
        self._workers, self._hosts, self._worth = workers, hosts, worth
        self._pool: ActorPool[int, Restarts] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> OnHosts:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _elsewhere(
        self, work: Work, method: str, seeds: Seeds, most: int, rate: float, note: Note
    ) -> list[Restarts] | None:
        worth = cluster.connected() and rate * len(seeds) >= self._worth
        if self._pool is None and not worth:
            return None
        from zoo_search.cluster.actors import ActorPool, in_order
        from zoo_search.cluster.hosts import borrowed

        if self._pool is None:
            pool: ActorPool[int, Restarts] = ActorPool(
                self._stack.enter_context(borrowed(self._hosts)),
                cluster.resources().workers(self._workers, len(seeds), gpu=False),
                partial,
                (_solve, self._problem),
                what="the restarts of the partition",
                cure="Set 'partition.workers' lower, or leave the address away to run in one "
                "process.",
            )
            self._pool = self._stack.enter_context(pool)
        length = min(most, -(-len(seeds) // (_CALLS_PER_HOST * len(self._pool))))
        shares = [seeds[low : low + length] for low in range(0, len(seeds), length)]
        calls = [(work, method, share) for share in shares]
        return in_order(self._pool, calls, "the same restarts of the partition", note)


def _solve(problem: PartitionProblem, work: Work, method: str, seeds: Seeds) -> Restarts:
    """Do the work: the role of a host, which holds the problem."""
    return work(problem, method, seeds)
