"""Processes of a run that have no work of their own: a step gives them a role, the next another.

So a process starts, and imports what it needs, once a run and not once a step. What they are given
to do, and what becomes of it when one dies, is in :mod:`zoo_search.cluster.actors`.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from zoo_search.cluster.connection import resources

_FAREWELL = 10.0
_NO_ROLE = -1
_roles = itertools.count()


class Host:
    """The Ray actor. It imports what its role needs, and no more.

    Every call names its role, so that a host which started late takes it with the first call.
    """

    def __init__(self) -> None:
        self._role = _NO_ROLE
        self._work: Callable[..., object] | None = None

    @ray.method
    def ping(self) -> int:
        """Return the process, once the host is up."""
        return os.getpid()

    @ray.method
    def become(self, role: Role) -> None:
        """Take a role before its first call, if that works; if not, that call says why."""
        with contextlib.suppress(Exception):
            self._take(role)

    @ray.method
    def call(self, role: Role, *arguments: object) -> object:
        """Return what the role gives for these arguments."""
        return self._take(role)(*arguments)

    @ray.method
    def forget(self, role: Role) -> None:
        """Drop what a role holds, unless the host has another one by now."""
        if self._role == role.number:
            self._drop()

    def _take(self, role: Role) -> Callable[..., object]:
        if self._work is None or self._role != role.number:
            self._drop()  # first, so that the old state and the new one are never there at once
            factory, args = ray.get(role.made_by)
            self._work, self._role = factory(*args), role.number
        return self._work

    def _drop(self) -> None:
        self._work, self._role = None, _NO_ROLE
        gc.collect()


@dataclass(frozen=True, eq=False)
class Role:
    """What hosts are to be: a factory and its arguments; any process of the run may hand it out."""

    number: int
    """New in the whole run."""
    made_by: ray.ObjectRef[Any]
    """Factory and arguments; a host that is in the role already needs no copy of them."""

    @classmethod
    def of(cls, factory: Callable[..., Callable[..., object]], args: Sequence[object]) -> Role:
        """Return the role of ``factory(*args)``; to be called in the run's driver."""
        return cls(next(_roles), ray.put((factory, tuple(args))))


@dataclass(eq=False)
class Call:
    """One thing to do: what the role is called with, under a name for errors.

    Attributes:
        affinity: A host that was given a call of the same affinity is asked first.
        copies: Hosts that are at it.
        deaths: Hosts that died over it.
        settled: It was answered, or nobody waits for its answer any more.
    """

    arguments: tuple[object, ...]
    name: str
    affinity: str
    copies: int = 0
    deaths: int = 0
    settled: bool = False


@dataclass(frozen=True, eq=False)
class Asked:
    """A call that a host was given, the reference to its answer, and when that was."""

    call: Call
    answer: ray.ObjectRef[Any]
    since: float


@dataclass(eq=False)
class Worker:
    """A host as the driver sees it.

    Attributes:
        node: Where it was asked for; None: wherever Ray likes.
        ping: What it was asked when it started; it gets no calls until it has answered.
        asked: What it was given, in the order in which it answers.
        affinity: That of its last call.
    """

    actor: ray.actor.ActorProxy[Host]
    gpu: bool
    node: str | None
    ping: ray.ObjectRef[int] | None
    asked: deque[Asked] = field(default_factory=deque)
    affinity: str = ""


class Hosts:
    """The processes of a run, started when a step first needs so many, kept for the next one.

    They hold no CPUs of Ray's account, so that there is always room for its tasks, such as those
    that decode images, after the loss of a node, too; a host with a GPU holds that. They are spread
    over the nodes by the CPUs that each has. Close them, or use them as a context, to end them.
    """

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._wanted = 0  # hosts when the last one but replacements was asked for
        self._cpus = 1  # of the cluster at that time

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def take(self, count: int, *, gpu: bool = False) -> list[Worker]:
        """Return ``count`` hosts, starting those that are missing without waiting for them.

        With ``gpu``, each has a GPU of its own; without, any hosts will do.
        """
        fit = [worker for worker in self._workers if worker.gpu or not gpu]
        if len(fit) < count:
            fit += [self._start(gpu) for _ in range(count - len(fit))]
            self._cpus, self._wanted = max(1, resources().cpus), len(self._workers)
        return fit[:count]

    def replace(self, worker: Worker) -> Worker:
        """End a host that died, and ask for another one like it."""
        self.drop(worker)
        return self._start(worker.gpu)

    def drop(self, worker: Worker) -> None:
        """End a host, whether it lives or not."""
        self._workers.remove(worker)
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(worker.actor)  # type: ignore[arg-type]  # of its proxy for types

    def crowded(self) -> bool:
        """Say whether nodes were lost, and there are more hosts a CPU than were asked for."""
        # The hosts' fair number shrinks as the cluster's CPUs do, rounded up.
        fair = -(-self._wanted * resources().cpus // self._cpus)
        return len(self._workers) > max(1, fair)

    def close(self) -> None:
        """End all hosts; what they are at may come to its end first."""
        # Ray writes lines of its own about calls that a killed actor leaves behind.
        answers = [asked.answer for worker in self._workers for asked in worker.asked]
        if answers:
            ray.wait(answers, num_returns=len(answers), timeout=_FAREWELL, fetch_local=False)
        for worker in list(self._workers):
            self.drop(worker)

    def _start(self, gpu: bool) -> Worker:
        node = None if gpu else self._roomiest()
        # Soft: where that node is gone meanwhile, any other will do.
        place = NodeAffinitySchedulingStrategy(node, soft=True) if node else "SPREAD"
        host = ray.remote(Host).options(num_cpus=0, num_gpus=int(gpu), scheduling_strategy=place)
        actor = host.remote()
        worker = Worker(actor, gpu, node, actor.ping.remote())
        self._workers.append(worker)
        return worker

    def _roomiest(self) -> str | None:
        """Return the node that has the most CPUs for each host that it would have."""
        cpus: dict[str, float] = {
            node["NodeID"]: node["Resources"].get("CPU", 0.0)
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"]
        }
        held = Counter(worker.node for worker in self._workers)
        return max(cpus, key=lambda node: cpus[node] / (held[node] + 1), default=None)


def borrowed(hosts: Hosts | None) -> AbstractContextManager[Hosts]:
    """Give the hosts of a run as they are, or, without any, some that end with the block."""
    return Hosts() if hosts is None else contextlib.nullcontext(hosts)
