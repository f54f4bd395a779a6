"""Ray actors that hold a partition problem, and jobs for them that survive the death of any.

Actors are asked one job at a time, and only once they are up. When one dies, with its process or
with its node, its job goes to another and a new actor is asked for; where the cluster has no room
for that one any more, the others go on without it. An actor that has nothing left to do takes over
the oldest job under way, so that a node that went silent without a word keeps nobody waiting. Jobs
are pure functions of the problem, so none of this can change an answer.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zoo_search import engine
from zoo_search.errors import UserError
from zoo_search.partition.problem import PartitionProblem
from zoo_search.partition.restarts import Restarts

__all__ = ["Actors", "Job", "actors"]

_LOSSES_OF_ONE_JOB = 5
_COPIES = 2


@dataclass(frozen=True)
class Job:
    """``work(problem, *arguments)``."""

    work: Callable[..., Restarts]
    arguments: tuple[Any, ...]


class _Solver:
    """The actor: a problem, and whatever is asked of it."""

    def __init__(self, problem: PartitionProblem) -> None:
        self._problem = problem

    def ready(self) -> None:
        """Return once the actor is up."""

    def do(self, job: Job) -> Restarts:
        return job.work(self._problem, *job.arguments)


@contextmanager
def actors(problem: PartitionProblem, workers: int | None = None) -> Iterator[Actors]:
    """Start actors on the connected cluster, and end them in the end.

    Args:
        problem: Sent once; actors of one node share its table in memory.
        workers: How many actors; default: one a CPU. More than CPUs share these.
    """
    started = Actors(problem, workers)
    try:
        yield started
    finally:
        started.close()


class Actors:
    """A group of actors; see :func:`actors`."""

    def __init__(self, problem: PartitionProblem, workers: int | None) -> None:
        import ray

        cpus = max(1, engine.resources().cpus)
        self.count = workers or cpus
        share = min(1.0, cpus / self.count)
        self._solver = ray.remote(_Solver).options(num_cpus=share)
        self._problem = ray.put(problem)
        self._starting: dict[Any, Any] = {}  # reference of ready() to its actor
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int | None]] = {}  # reference to actor, job
        for _ in range(self.count):
            self._start()

    def run(
        self,
        jobs: Sequence[Job],
        on_result: Callable[[Restarts], None],
        timeout: float | None = None,
    ) -> list[Restarts]:
        """Return what the jobs give, in their order; ``on_result`` hears of each as it comes.

        Args:
            jobs: What to do.
            on_result: Called once per job.
            timeout: Seconds without a result after which it is given up; default: the patience of
                :func:`zoo_search.engine.connect`.

        Raises:
            UserError: If nothing happens for that long, or a job has killed several actors.
        """
        results: dict[int, Restarts] = {}
        waiting, losses = deque(range(len(jobs))), Counter[int]()
        patience = engine.Patience("the restarts of the partition", timeout)
        while len(results) < len(jobs):
            self._hand_out(jobs, waiting, results)
            for index, value in self._events(waiting, losses):
                if index not in results:
                    results[index] = value
                    on_result(value)
                    patience.progress()
            patience.check()
        self._busy = {ref: (actor, None) for ref, (actor, _) in self._busy.items()}
        return [results[index] for index in range(len(jobs))]

    def close(self) -> None:
        """End all actors."""
        import ray

        busy = [actor for actor, _ in self._busy.values()]
        for actor in [*self._starting.values(), *self._idle, *busy]:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)

    def _start(self) -> None:
        actor: Any = self._solver.remote(self._problem)
        self._starting[actor.ready.remote()] = actor

    def _hand_out(
        self, jobs: Sequence[Job], waiting: deque[int], results: dict[int, Restarts]
    ) -> None:
        """Give every idle actor the next job, or the oldest one that is not finished elsewhere."""
        while self._idle:
            while waiting and waiting[0] in results:
                waiting.popleft()
            if waiting:
                index = waiting.popleft()
            else:
                running = Counter(
                    i for _, i in self._busy.values() if i is not None and i not in results
                )
                open_jobs = [i for i in running if running[i] < _COPIES]
                if not open_jobs:
                    return
                index = open_jobs[0]
            actor = self._idle.pop()
            self._busy[actor.do.remote(jobs[index])] = (actor, index)

    def _events(self, waiting: deque[int], losses: Counter[int]) -> Iterator[tuple[int, Restarts]]:
        """Wait a second at most; yield results, and replace actors that died."""
        import ray

        done, _ = ray.wait([*self._busy, *self._starting], num_returns=1, timeout=1.0)
        for ref in done:
            index: int | None = None
            actor = self._starting.pop(ref, None)
            if actor is None:
                actor, index = self._busy.pop(ref)
            try:
                value = ray.get(ref)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
                self._lost(actor, index, waiting, losses)
                continue
            self._idle.append(actor)
            if index is not None:
                yield index, value

    def _lost(
        self, actor: Any, index: int | None, waiting: deque[int], losses: Counter[int]
    ) -> None:
        """Put the job of a dead actor back and ask for another actor."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(actor)
        if index is not None:
            losses[index] += 1
            if losses[index] >= _LOSSES_OF_ONE_JOB:
                raise UserError(
                    f"A Ray worker died {_LOSSES_OF_ONE_JOB} times over the same restarts of the "
                    "partition. Most often a node runs out of memory: look at 'ray status' and "
                    "the logs of the nodes, set 'partition.workers' lower, or leave the address "
                    "away to run in one process."
                )
            waiting.appendleft(index)
        self._start()
