"""Calls to the processes of a run, which survive the death of any.

A call is a pure function of a role and its arguments, so nothing of this can change an answer:

- When a host dies, with its process or with its node, its calls go to the others and a new host is
  asked for. Nobody waits for that one: where the cluster has no room for it, the others go on.
- A call over which several hosts died is an error that names it.
- A host that has nothing left to do takes a copy of the oldest call that is under way, so that a
  node that went silent without a word keeps nobody waiting.
- Every wait has a limit (:class:`zoo_search.core.timeout.Timeout`).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

import ray

from zoo_search.cluster.hosts import Asked, Call, Hosts, Role, Worker
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.timeout import Timeout

T = TypeVar("T")
R = TypeVar("R")
_DEATHS = 5  # of hosts over one and the same call
_COPIES = 2  # hosts that are at one and the same call


class _Waiting:
    """Calls that wait, one queue an affinity, and what the calls of an affinity still lack."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Call]] = {}
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, call: Call) -> None:
        """Let a new call wait behind those of its affinity."""
        self._open[call.affinity] += 1
        self._queues.setdefault(call.affinity, deque()).append(call)

    def put_back(self, call: Call) -> None:
        """Let a call that was lost wait before all others of its affinity."""
        self._queues.setdefault(call.affinity, deque()).appendleft(call)

    def settle(self, call: Call) -> bool:
        """Note that a call was answered; say whether it was the last one of its affinity."""
        self._open[call.affinity] -= 1
        return not self._open[call.affinity]

    def take(self, own: str, taken: Collection[str]) -> Call | None:
        """Take the next call, if any waits: of this affinity where there is one.

        Else it is one of an affinity that is not taken, or, where all are, of the longest queue.
        """
        left = {key: len(queue) for key, queue in self._queues.items() if queue}
        if not left:
            return None
        key = own if own in left else max(left, key=lambda k: (k not in taken, left[k]))
        return self._queues[key].popleft()


class ActorPool(Generic[T, R]):
    """Hosts in one role, and calls that they answer; closed, it leaves them to the next pool.

    Args:
        hosts: The processes.
        count: How many of them work here.
        factory: Makes what a host calls, once a host, after what it held for the pool before is
            dropped; a function that can be imported there.
        args: Its arguments; sent once, and shared in memory by the hosts of a node.
        what: What the answers are, for the message if none come.
        cure: A sentence: what may help where hosts die again and again.
        gpu: Whether each host needs a GPU.
        in_flight: Calls that a host has at once, so that it never waits for the driver.
        copy_after: Seconds that a call is under way before an idle host takes a copy of it.
        shared: Gives what all calls of one affinity need, such as a model. It is sent with the
            first of them and let go of with the last; the role's first argument is then a list of
            one reference to it, so that a host that has it need not fetch it again.
    """

    def __init__(
        self,
        hosts: Hosts,
        count: int,
        factory: Callable[..., Callable[..., R]],
        args: Sequence[object] = (),
        *,
        what: str,
        cure: str = "",
        gpu: bool = False,
        in_flight: int = 1,
        copy_after: float = 0.0,
        shared: Callable[[str], object] | None = None,
    ) -> None:
        self._hosts, self._what, self._cure = hosts, what, cure
        self._in_flight, self._copy_after, self._shared = in_flight, copy_after, shared
        self._sent: dict[str, list[ray.ObjectRef[Any]]] = {}
        self._waiting = _Waiting()
        self._unanswered: dict[Call, T] = {}
        self._timeout = Timeout(what)
        self._role = Role.of(factory, args)
        self._team = hosts.take(count, gpu=gpu)
        for worker in self._team:
            worker.actor.become.remote(self._role)

    def __enter__(self) -> ActorPool[T, R]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of hosts, those that are starting included."""
        return len(self._team)

    @property
    def unanswered(self) -> int:
        """How many calls wait or are under way."""
        return len(self._unanswered)

    def needs_work(self) -> bool:
        """Say whether less is waiting than one call for each host."""
        return len(self._waiting) < len(self._team)

    def submit(self, item: T, *arguments: object, name: str, affinity: str = "") -> None:
        """Have the role called with these arguments, by whichever host is free first.

        Args:
            item: What :meth:`poll` gives back with the answer.
            arguments: Of the call.
            name: What errors call it, such as ``"the model 'resnet18' on batch 3"``.
            affinity: Calls of the same affinity go to the same host where that costs no time.
        """
        if not self._unanswered:
            self._timeout.progress()  # nothing was waited for until now
        call = Call(arguments, name, affinity)
        self._unanswered[call] = item
        self._waiting.add(call)

    def poll(self, seconds: float = 1.0) -> tuple[T, R] | None:
        """Hand out what waits, and wait for the next answer; None if none came within that time.

        Raises:
            UserError: If hosts died over one call again and again, no host is left, or nothing
                has happened for long; or as a call raises it.
        """
        if not self._unanswered:
            return None
        self._hand_out()
        # A host answers in the order in which it was asked, so its first call is all to wait for.
        # What has to be fetched from another node is here when ray.wait names it: ray.get, which
        # would wait for ever where that node falls silent, finds it in this node's store.
        heads = {worker.asked[0].answer: worker for worker in self._team if worker.asked}
        pings = {worker.ping: worker for worker in self._team if worker.ping is not None}
        done, _ = ray.wait([*heads, *pings], num_returns=1, timeout=seconds)
        found = None
        for ref in done:
            self._timeout.progress()
            if ref in heads:
                found = self._take_answer(heads[ref])
            else:
                self._readmit(pings[ref], ref)
        self._timeout.check()
        return found

    def close(self) -> None:
        """Leave the hosts to others; nobody hears of what is still under way."""
        for call in self._unanswered:
            call.settled = True
        self._unanswered, self._waiting, self._sent = {}, _Waiting(), {}
        # What a host is still at stays in its list, settled: it counts as under way in the next
        # pool, too, until it has come to an end, and then its answer is dropped.
        for worker in self._team:
            worker.affinity = ""
            worker.actor.forget.remote(self._role)
        self._team = []

    def _hand_out(self) -> None:
        """Give every host its next calls, one round after the other, so that none has all."""
        here = [worker for worker in self._team if worker.ping is None]
        for depth in range(1, self._in_flight + 1):
            for worker in here:
                if len(worker.asked) < depth:
                    taken = {other.affinity for other in self._team}
                    if (call := self._waiting.take(worker.affinity, taken)) is not None:
                        self._ask(worker, call)
        # Nothing waits any more where a host is idle now: it may as well do what another one is at.
        for worker in here:
            if not worker.asked and (call := self._overdue()) is not None:
                self._ask(worker, call)

    def _ask(self, worker: Worker, call: Call) -> None:
        call.copies += 1
        worker.affinity = call.affinity
        arguments = call.arguments
        if self._shared is not None:
            if call.affinity not in self._sent:
                self._sent[call.affinity] = [ray.put(self._shared(call.affinity))]
            arguments = (self._sent[call.affinity], *arguments)
        answer = worker.actor.call.remote(self._role, *arguments)
        worker.asked.append(Asked(call, answer, time.monotonic()))

    def _overdue(self) -> Call | None:
        """Return the call that is under way for longest, if it may be copied."""
        latest = time.monotonic() - self._copy_after
        asked = [one for worker in self._team for one in worker.asked if one.since <= latest]
        slow = [one for one in asked if not one.call.settled and one.call.copies < _COPIES]
        return min(slow, key=lambda one: one.since).call if slow else None

    def _take_answer(self, worker: Worker) -> tuple[T, R] | None:
        """Return what a host answered, unless a copy of the call was answered before."""
        call, failure = worker.asked[0].call, None
        try:
            value: R = ray.get(worker.asked[0].answer)
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            self._on_death(worker, error)
            return None
        except ray.exceptions.RayTaskError as error:
            failure = error.cause if isinstance(error.cause, UserError) else error
        worker.asked.popleft()
        call.copies -= 1
        if call.settled:
            return None
        call.settled, item = True, self._unanswered.pop(call)
        if self._waiting.settle(call):
            self._sent.pop(call.affinity, None)
        if failure is not None:
            raise failure from None
        return item, value

    def _on_death(self, worker: Worker, error: Exception) -> None:
        """Put the calls of a host that died first in their queues, and ask for another host.

        A host is not restarted in place: that needs what a dead node may have taken with it.
        """
        lost = [asked.call for asked in worker.asked]
        at = self._team.index(worker)
        self._team[at] = self._hosts.replace(worker)
        self._team[at].actor.become.remote(self._role)
        lost[0].deaths += 1  # the one that it was at: those behind it had not begun
        for call in reversed(lost):  # each is put before the others, so that their order stays
            call.copies -= 1
            if not call.settled and not call.copies:
                self._waiting.put_back(call)
        if lost[0].deaths >= _DEATHS and not lost[0].settled:
            raise UserError(
                f"A Ray worker died {_DEATHS} times over {lost[0].name} ({first_line(error)}). "
                "Most often a machine runs out of memory: look at 'ray status' and the logs of "
                f"the nodes. {self._cure}".rstrip()
            )

    def _readmit(self, worker: Worker, ping: ray.ObjectRef[int]) -> None:
        """Take a host in that has started; one that came to nothing leaves the team."""
        reason = "it was one too many"
        try:
            ray.get(ping)
            worker.ping = None
            if len(self._team) == 1 or not self._hosts.crowded():
                return
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            reason = first_line(error)
        self._team.remove(worker)
        self._hosts.drop(worker)
        if not self._team:
            raise UserError(
                f"No Ray worker is left for {self._what} ({reason}). Look at 'ray status', then "
                "run the same command again: what is finished is kept."
            )


def in_order(
    pool: ActorPool[int, R],
    calls: Sequence[tuple[object, ...]],
    name: str,
    on_answer: Callable[[R], None] = lambda answer: None,
) -> list[R]:
    """Return what an idle pool answers to calls with these arguments, in their order.

    ``name`` is what errors call any of them; ``on_answer`` hears of each answer as it comes.

    Raises:
        UserError: As :meth:`ActorPool.poll`.
    """
    for index, arguments in enumerate(calls):
        pool.submit(index, *arguments, name=name)
    answers: dict[int, R] = {}
    while len(answers) < len(calls):
        if (found := pool.poll()) is not None:
            answers[found[0]] = found[1]
            on_answer(found[1])
    return [answers[index] for index in range(len(calls))]
