"""The one seam to Ray: start or join a cluster, quietly, and wait with time limits.

No other module calls ``ray.init``. A local cluster that was started here ends with the process;
a cluster that was joined is left as it was found.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from zoo_search.errors import UserError, first_line

__all__ = [
    "PATIENCE",
    "Patience",
    "Resources",
    "connect",
    "connected",
    "disconnect",
    "gather",
    "pulse",
    "resources",
    "set_patience",
    "ship",
    "threads_per_worker",
]

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_QUIET_INIT: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


@dataclass(frozen=True)
class Resources:
    """What the cluster has.

    Attributes:
        cpus: Logical CPUs over all nodes.
        gpus: GPUs over all nodes.
        nodes: Live nodes.
        address: ``"local"`` if the cluster was started by this process, else the address joined.
    """

    cpus: int
    gpus: int
    nodes: int
    address: str


PATIENCE = 1800.0
"""Seconds without any progress after which a wait for the cluster is given up, by default."""

_address = "local"
_patience = PATIENCE


def ship(function: Any) -> None:
    """Let workers run a user's function although only this process can import its module.

    Functions of installed packages are left to be imported there.
    """
    from ray import cloudpickle

    module = inspect.getmodule(function)
    place = getattr(module, "__file__", None)
    if module is None or not place or "site-packages" in place:
        return
    if module.__name__.partition(".")[0] not in ("zoo_search", "__main__"):
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]


def connect(
    address: str | None = None, *, num_cpus: int | None = None, timeout: float = 10.0
) -> Resources:
    """Join the cluster at ``address`` or ``RAY_ADDRESS``, else start a local one; idempotent.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``auto`` or ``local``; None: ``RAY_ADDRESS``.
        num_cpus: CPUs of a local cluster; default: all of this machine's.
        timeout: Seconds that a cluster to be joined has to answer.

    Raises:
        UserError: If no cluster answers at the address.
    """
    global _address
    _be_quiet()
    import ray

    if ray.is_initialized():
        return resources()
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if wanted == "local":
        ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **_QUIET_INIT)
    else:
        _join(wanted, timeout)
    _address = wanted
    _quiet_data()
    return resources()


def _join(address: str, timeout: float) -> None:
    """Join a running cluster, or say that there is none; Ray itself would wait for minutes."""
    import ray

    try:
        if address != "auto":
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout).close()
        ray.init(address=address, **_QUIET_INIT)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"No Ray cluster answers at {address} ({first_line(error)}). Start one with 'ray "
            "start --head', give its address (HOST:PORT, ray://HOST:PORT or auto) with --address "
            "or RAY_ADDRESS, or leave both away to use this machine alone."
        ) from None


def _be_quiet() -> None:
    """Set what Ray reads from the environment, without overruling the user's own choice."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def _quiet_data() -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What fails is told by our own message; Ray Data would print the worker's traceback as well.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)


def connected() -> bool:
    """Say whether this process has joined a cluster, without importing Ray for the question."""
    import sys

    ray = sys.modules.get("ray")
    return bool(ray is not None and ray.is_initialized())


def resources() -> Resources:
    """Return what the connected cluster has."""
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return Resources(int(total.get("CPU", 0)), int(total.get("GPU", 0)), len(alive), _address)


def disconnect() -> None:
    """Leave the cluster; a local one that was started here ends."""
    import ray

    ray.shutdown()


def threads_per_worker(workers: int) -> int:
    """Return how many threads each of ``workers`` processes may use to share out the cores."""
    return max(1, (os.cpu_count() or 1) // max(1, workers))


def set_patience(seconds: float) -> None:
    """Set how long every later wait of this process goes on without any progress.

    Args:
        seconds: At first, :data:`PATIENCE`.
    """
    global _patience
    _patience = seconds


class Patience:
    """The limit on one wait: as long as something happens now and then, it may go on for ever.

    A link that is cut without a word leaves Ray waiting, so no wait of ours asks Ray alone.

    Args:
        what: What is waited for, as the message calls it, such as ``"the pre-trained models"``.
        seconds: Without any progress; default: :func:`set_patience`.
    """

    def __init__(self, what: str, seconds: float | None = None) -> None:
        self._what = what
        self._limit = _patience if seconds is None else seconds
        self._last = time.monotonic()

    def progress(self) -> None:
        """Note that something has happened."""
        self._last = time.monotonic()

    def check(self) -> None:
        """Return if something has happened lately.

        Raises:
            UserError: If nothing has.
        """
        if time.monotonic() - self._last > self._limit:
            raise UserError(
                f"Gave up waiting for {self._what}: the Ray cluster made no progress for "
                f"{self._limit:g} s. Look at 'ray status' for nodes that died or resources that "
                "never come, then run the same command again: what is finished is kept. If the "
                "work is that slow, raise 'patience' (seconds) in the run file."
            )


class _Pulse:
    """Counts the signs of life of long tasks."""

    def __init__(self) -> None:
        self._beats = 0

    def beat(self) -> None:
        self._beats += 1

    def count(self) -> int:
        return self._beats


def pulse() -> Any:
    """Return an actor for tasks that run for long: they call ``beat.remote()`` now and then."""
    import ray

    return ray.remote(_Pulse).options(num_cpus=0).remote()


def gather(
    refs: Sequence[Any],
    *,
    what: str = "tasks",
    timeout: float | None = None,
    pulse: Any = None,
    on_result: Callable[[int, Any], None] | None = None,
) -> list[Any]:
    """Return the values of ``refs`` in their order; ``on_result`` hears of each as it comes.

    Args:
        refs: Ray object references.
        what: What they give, for the message.
        timeout: Seconds without any progress after which waiting is given up; default:
            :func:`set_patience`.
        pulse: What :func:`pulse` gave, if a single task may take longer than that: its beats are
            progress, as every new result is.
        on_result: Called with ``(index, value)`` in order of arrival.

    Raises:
        UserError: If nothing happens for that long; what is still running is cancelled.
    """
    import ray

    place = {ref: index for index, ref in enumerate(refs)}
    values: list[Any] = [None] * len(refs)
    waiting, patience, heart = list(refs), Patience(what, timeout), _Heart(pulse)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1, timeout=1.0)
        for ref in done:
            value = ray.get(ref)
            values[place[ref]] = value
            patience.progress()
            if on_result is not None:
                on_result(place[ref], value)
        if heart.has_beaten():
            patience.progress()
        try:
            patience.check()
        except UserError:
            for ref in waiting:
                ray.cancel(ref, force=True)
            raise
    return values


class _Heart:
    """Looks after a pulse without ever waiting for it."""

    def __init__(self, pulse: Any) -> None:
        self._pulse = pulse
        self._asked: Any = None
        self._beats = 0

    def has_beaten(self) -> bool:
        """Say whether there was a beat between the last two answers."""
        if self._pulse is None:
            return False
        import ray

        before = self._beats
        if self._asked is not None:
            if not ray.wait([self._asked], timeout=0)[0]:
                return False
            with contextlib.suppress(ray.exceptions.RayError):
                self._beats = ray.get(self._asked)
        self._asked = self._pulse.count.remote()
        return self._beats > before
