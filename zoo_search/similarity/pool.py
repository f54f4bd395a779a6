"""Models over batches on Ray actors: every missing pair of a model and a batch is one call.

A worker prefers batches of the model that it has. A call may be repeated, so an actor that dies
costs its own calls only. While the actors work on one window of images, the next is decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo_search.engine import Patience
from zoo_search.similarity.crew import Call, Crew, Worker
from zoo_search.similarity.extract import Settings, Speed
from zoo_search.similarity.gather import ImageBatch

if TYPE_CHECKING:
    from zoo_search.engine import Resources
    from zoo_search.similarity.grams import Header

__all__ = ["Job", "Pool", "actors_for"]

_AWAITED = "the Gram matrices"
_IN_FLIGHT = 2
_LOOK = 0.5  # seconds between looks at the window that is being decoded
Windows = Iterator[list[ImageBatch]]
Ahead = Future[list[ImageBatch] | None]


@dataclass(frozen=True)
class Job:
    """One model, what its parts are made from, and the batches that it lacks.

    ``source`` is line graph and transform.
    """

    source: tuple[Any, Any]
    made_from: str
    missing: Collection[int]


def actors_for(have: Resources, calls: int, workers: int | None = None) -> int:
    """Return how many actors work off so many calls: one a GPU, else one a CPU, at most."""
    return max(1, min(calls, workers or have.gpus or have.cpus))


class Pool:
    """Actors that work off models over batches; arguments as for :class:`Crew`."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._crew = Crew(settings, count)
        self._sent: dict[str, Any] = {}
        self._patience = Patience(_AWAITED)

    def __len__(self) -> int:
        return len(self._crew)

    def pids(self) -> list[int]:
        """Return the processes of the actors."""
        return self._crew.pids()

    def close(self) -> None:
        """End the actors."""
        self._crew.close()
        self._sent.clear()

    def probe(self, jobs: Mapping[str, Job], samples: int) -> dict[str, Speed]:
        """Return the speed of each model, measured on an actor: see :meth:`GramActor.probe`."""
        import ray

        found: dict[str, Speed] = {}
        todo = deque(jobs)
        while len(found) < len(jobs):
            for worker in self._crew.here():
                if todo and not worker.calls:
                    name = todo.popleft()
                    model = [ray.put(jobs[name].source)]
                    answer = worker.actor.probe.remote(name, model, samples)
                    worker.calls.append(Call(name, None, answer))
                    worker.model = name
            answers, lost = self._hear()
            todo.extend(call.model for call in lost)
            found |= {call.model: speed for call, speed in answers}
        return found

    def run(self, jobs: Mapping[str, Job], windows: Windows) -> Iterator[tuple[Header, bytes]]:
        """Yield the Gram parts as they come, in no fixed order.

        Args:
            jobs: What to run; a batch that a job does not miss is not run.
            windows: The images, a few batches at a time; read one window ahead in a thread.

        Raises:
            UserError: If a model gives a NaN or infinite feature, workers die at one batch again
                and again, or nothing comes for long.
        """
        todo: dict[str, deque[ImageBatch]] = {name: deque() for name in jobs}
        reader = ThreadPoolExecutor(1, thread_name_prefix="window")
        ahead: Ahead | None = reader.submit(next, windows, None)
        self._patience.progress()
        try:
            while True:
                idle = not any(todo.values()) and not self._crew.calls()
                if ahead is not None and (idle or (ahead.done() and self._hungry(todo))):
                    ahead = self._take(ahead, jobs, todo, reader, windows)
                    continue
                if idle:
                    return
                self._hand_out(jobs, todo)
                answers, lost = self._hear()
                for call in lost:
                    todo[call.model].appendleft(call.item)
                for call, part in answers:
                    yield part
                    if not todo[call.model] and call.model not in self._running():
                        self._sent.pop(call.model, None)
        finally:
            reader.shutdown(wait=False, cancel_futures=True)

    def _hear(self) -> tuple[list[tuple[Call, Any]], list[Call]]:
        """Return what the crew tells next; a silence that is too long is an error."""
        answers, lost = self._crew.hear(_LOOK)
        if answers or lost:
            self._patience.progress()
        self._patience.check()
        return answers, lost

    def _running(self) -> set[str]:
        return {call.model for call in self._crew.calls()}

    def _hungry(self, todo: Mapping[str, deque[ImageBatch]]) -> bool:
        """Say whether less is left than one call for each worker."""
        return sum(map(len, todo.values())) < len(self._crew)

    def _take(
        self,
        ahead: Ahead,
        jobs: Mapping[str, Job],
        todo: Mapping[str, deque[ImageBatch]],
        reader: ThreadPoolExecutor,
        windows: Windows,
    ) -> Ahead | None:
        """Add the window that was read ahead to what is to do, and start on the next one."""
        while not wait([ahead], timeout=_LOOK).done:
            self._patience.check()
        window = ahead.result()
        self._patience.progress()
        if window is None:
            return None
        for name, job in jobs.items():
            todo[name].extend(batch for batch in window if batch.index in job.missing)
        return reader.submit(next, windows, None)

    def _hand_out(self, jobs: Mapping[str, Job], todo: Mapping[str, deque[ImageBatch]]) -> None:
        """Give every worker its next calls."""
        import ray

        workers = self._crew.here()
        for depth in range(1, _IN_FLIGHT + 1):
            for worker in workers:
                if len(worker.calls) >= depth:
                    continue
                name = _next_model(todo, worker, workers)
                if name is None:
                    return
                if name not in self._sent:
                    self._sent[name] = ray.put(jobs[name].source)
                batch = todo[name].popleft()
                model = [self._sent[name]]
                answer = worker.actor.embed.remote(
                    name, jobs[name].made_from, model, batch.index, batch.ids, batch.images
                )
                worker.calls.append(Call(name, batch, answer))
                worker.model = name


def _next_model(
    todo: Mapping[str, deque[ImageBatch]], worker: Worker, workers: Collection[Worker]
) -> str | None:
    """Return the model to go on with: the worker's own, one that no other has, the longest."""
    left = {name: len(batches) for name, batches in todo.items() if batches}
    if worker.model in left:
        return worker.model
    taken = {other.model for other in workers}
    return max(left, key=lambda name: (name not in taken, left[name]), default=None)
