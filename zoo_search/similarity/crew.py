"""Actors that may die: their calls come back to be done by others, and they join again.

A restarted actor needs resources that a dead node may have taken with it. So no call waits for an
actor to come back: what it was at is handed out anew, and it gets work again once it answers.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from zoo_search.errors import UserError, first_line
from zoo_search.similarity.extract import GramActor, Settings

__all__ = ["Call", "Crew", "Worker"]

_DEATHS = 4  # of workers at one and the same call
_FAREWELL = 10.0
_BREATH = 0.2


@dataclass(frozen=True)
class Call:
    """One call of an actor.

    Attributes:
        model: The model that it runs.
        item: What it runs on; what a caller needs to make the call again.
        answer: Reference to what it gives.
    """

    model: str
    item: Any
    answer: Any


@dataclass
class Worker:
    """One actor, the model that it has, and the calls that it is at, in order.

    ``ping`` is a question that an actor was asked after it died; without an answer it is away.
    """

    actor: Any
    model: str | None = None
    calls: deque[Call] = field(default_factory=deque)
    ping: Any = None


class Crew:
    """The actors of a step.

    Args:
        settings: The same for every actor.
        count: Number of actors. CPUs are shared out among them, and one is left to those who
            decode; an actor with a GPU takes one CPU.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        import ray

        from zoo_search import engine

        have = engine.resources()
        cpus = 1.0 if have.gpus else (have.cpus - 1) / count
        # Ray takes shares of a CPU below 1 only.
        self._share = int(cpus) if cpus >= 1 else int(cpus * 100) / 100
        if have.nodes > 1 and not have.gpus:
            # After the loss of a node, actors that hold CPUs could leave none to those who decode.
            self._share = 0
        make = ray.remote(GramActor).options(
            num_cpus=self._share,
            num_gpus=1 if have.gpus else 0,
            max_restarts=-1,
            scheduling_strategy="SPREAD",
        )
        threads = max(1, have.cpus // count)
        self._workers = [Worker(make.remote(settings, threads)) for _ in range(count)]
        self._deaths: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._workers)

    def here(self) -> list[Worker]:
        """Return the workers that can be given calls."""
        return [worker for worker in self._workers if worker.ping is None]

    def calls(self) -> list[Call]:
        """Return the calls that are out."""
        return [call for worker in self._workers for call in worker.calls]

    def pids(self) -> list[int]:
        """Return the processes of the actors."""
        import ray

        pids: list[int] = ray.get([worker.actor.pid.remote() for worker in self._workers])
        return pids

    def hear(self, seconds: float) -> tuple[list[tuple[Call, Any]], list[Call]]:
        """Wait for the next answer.

        Returns:
            Calls with what they gave, and calls that were lost with a worker; both are empty if
            nothing came within that time.

        Raises:
            UserError: If workers died at one call again and again, or no worker is left.
        """
        import ray

        asked = {w.ping: w for w in self._workers if w.ping is not None}
        heads = {w.calls[0].answer: w for w in self._workers if w.calls}
        done, _ = ray.wait([*heads, *asked], num_returns=1, timeout=seconds)
        if not done:
            return [], []
        if done[0] in asked:
            self._welcome(asked[done[0]])
            return [], []
        worker = heads[done[0]]
        call = worker.calls.popleft()
        try:
            return [(call, ray.get(call.answer))], []
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            lost = [call, *worker.calls]
            self._bury(worker, call, error)
            return [], lost

    def close(self) -> None:
        """End the actors; what they are at may come to its end first."""
        import ray

        # Ray writes lines of its own about calls that a killed actor leaves behind.
        answers = [call.answer for call in self.calls()]
        if answers:
            ray.wait(answers, num_returns=len(answers), timeout=_FAREWELL, fetch_local=False)
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers = []

    def _bury(self, worker: Worker, call: Call, error: Exception) -> None:
        """Ask a worker that died whether it is back, unless it is the call that kills workers."""
        key = (call.model, str(getattr(call.item, "index", "")))
        self._deaths[key] += 1
        if self._deaths[key] >= _DEATHS:
            raise UserError(
                f"Workers died {_DEATHS} times while they ran the model '{call.model}' on one "
                f"batch ({first_line(error)}). Most often the machine ran out of memory: set "
                "similarity.workers to a smaller number, or leave the model out. Run the same "
                "command again: finished batches are kept."
            ) from None
        worker.calls.clear()
        worker.model = None
        worker.ping = worker.actor.pid.remote()

    def _welcome(self, worker: Worker) -> None:
        """Take a worker in again that answers; one that is gone for good leaves the crew."""
        import ray

        try:
            ray.get(worker.ping)
            worker.ping = None
            if len(self._workers) > 1 and self._crowded():
                self._workers.remove(worker)
                ray.kill(worker.actor)
        except ray.exceptions.ActorUnavailableError:
            time.sleep(_BREATH)
            worker.ping = worker.actor.pid.remote()
        except ray.exceptions.RayActorError as error:
            self._workers.remove(worker)
            if not self._workers:
                raise UserError(
                    f"No worker is left to run the models ({first_line(error)}). Look at 'ray "
                    "status', then run the same command again: finished batches are kept."
                ) from None

    def _crowded(self) -> bool:
        """Say whether nodes were lost, and the workers leave no CPU to those who decode."""
        from zoo_search import engine

        have = engine.resources()
        return not have.gpus and len(self._workers) * self._share > have.cpus - 1
