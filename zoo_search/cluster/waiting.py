"""Waiting for tasks on Ray, with a limit on every wait."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from zoo_search.core.errors import UserError
from zoo_search.core.timeout import Timeout

if TYPE_CHECKING:
    from ray import ObjectRef

T = TypeVar("T")
Pulse = Any  # an actor: Ray's own type of it hides the methods


class _Pulse:
    """Counts the signs of life of long tasks, and keeps how far each is."""

    def __init__(self) -> None:
        self._beats = 0
        self._shares: dict[str, float] = {}
        self._told: list[str] = []

    def tell(self, line: str) -> None:
        self._beats += 1
        if line not in self._told:  # by several workers, or once more after a restart
            self._told.append(line)

    def beat(self, name: str = "", share: float = 0.0) -> None:
        self._beats += 1
        if name:
            self._shares[name] = share

    def look(self) -> tuple[int, dict[str, float], list[str]]:
        return self._beats, self._shares, self._told


@dataclass(frozen=True)
class News:
    """What a pulse heard of: the share done of each task that told its name, and all lines told."""

    shares: Mapping[str, float]
    told: Sequence[str] = ()


def pulse() -> Pulse:
    """Return an actor for tasks that run for long: they call ``beat.remote()`` now and then.

    With ``tell.remote(line)`` they say in words what the driver is to pass on.
    """
    import ray

    actor: Pulse = ray.remote(_Pulse)
    return actor.options(num_cpus=0).remote()


def beater(pulse: Pulse, name: str) -> Callable[[float | None], None]:
    """Return what a task calls as often as it likes to say which share of its work is done.

    None says no more than that it is at work.

    One call a second is passed on to the pulse.
    """
    last = 0.0

    def beat(share: float | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1.0:
            last = now
            pulse.beat.remote(*(() if share is None else (name, share)))

    return beat


class Listener:
    """Hears what a pulse says, without a wait for it: on a node that is gone it never answers."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse, self._heard = pulse, 0
        self._asked = pulse.look.remote()

    def news(self) -> News | None:
        """Return what there is to know, if anything was heard since."""
        import ray

        if not ray.wait([self._asked], timeout=0)[0]:
            return None
        beats, shares, told = self._heard, {}, []
        with contextlib.suppress(ray.exceptions.RayError):
            beats, shares, told = ray.get(self._asked)
        self._asked = self._pulse.look.remote()
        known, self._heard = self._heard, beats
        return News(shares, told) if beats > known else None


def gather(
    refs: Sequence[ObjectRef[T]],
    *,
    what: str = "tasks",
    timeout: float | None = None,
    pulse: Pulse | None = None,
    on_result: Callable[[int, T], None] | None = None,
    on_beat: Callable[[Mapping[str, float]], None] = lambda shares: None,
) -> list[T]:
    """Return the values of ``refs``, references of Ray, in their order.

    Args:
        what: What they give, for the message.
        timeout: Seconds without any progress after which waiting is given up; default:
            :func:`zoo_search.core.timeout.set_timeout`.
        pulse: What :func:`pulse` gave, if a single task may take longer than that: its beats are
            progress, as every new result is.
        on_result: Hears of ``(index, value)`` in order of arrival.
        on_beat: Hears after new beats of the share done of each task that told its name, also of
            those that are finished.

    Raises:
        UserError: If nothing happens for that long; what is still running is cancelled.
    """
    import ray

    place = {ref: index for index, ref in enumerate(refs)}
    values: dict[int, T] = {}
    waiting, limit = list(refs), Timeout(what, timeout)
    listener = None if pulse is None else Listener(pulse)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1, timeout=1.0)
        for ref in done:
            value = ray.get(ref)
            values[place[ref]] = value
            limit.progress()
            if on_result is not None:
                on_result(place[ref], value)
        news = None if listener is None else listener.news()
        if news is not None:
            limit.progress()
            on_beat(news.shares)
        try:
            limit.check()
        except UserError:
            for ref in waiting:
                ray.cancel(ref, force=True)
            raise
    return [values[index] for index in range(len(refs))]
