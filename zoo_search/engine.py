"""The one seam to Ray: start or join a cluster, quietly, and wait with time limits.

No other module calls ``ray.init``. A local cluster that was started here ends with the process;
a cluster that was joined is left as it was found.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from zoo_search.errors import UserError

__all__ = [
    "Resources",
    "connect",
    "connected",
    "disconnect",
    "gather",
    "resources",
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


_address = "local"


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
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"No Ray cluster answers at {address} ({reason}). Start one with 'ray start --head', "
            "give its address (HOST:PORT, ray://HOST:PORT or auto) with --address or RAY_ADDRESS, "
            "or leave both away to use this machine alone."
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


def gather(
    refs: Sequence[Any],
    *,
    timeout: float | None = None,
    on_result: Callable[[int, Any], None] | None = None,
) -> list[Any]:
    """Return the values of ``refs`` in their order; ``on_result`` hears of each as it comes.

    Args:
        refs: Ray object references.
        timeout: Seconds without any new result after which waiting is given up.
        on_result: Called with ``(index, value)`` in order of arrival.

    Raises:
        UserError: If nothing arrives for ``timeout`` seconds; what is still running is cancelled.
    """
    import ray

    place = {ref: index for index, ref in enumerate(refs)}
    values: list[Any] = [None] * len(refs)
    waiting, last = list(refs), time.monotonic()
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1, timeout=1.0)
        for ref in done:
            value = ray.get(ref)
            values[place[ref]] = value
            last = time.monotonic()
            if on_result is not None:
                on_result(place[ref], value)
        if timeout is not None and waiting and time.monotonic() - last > timeout:
            for ref in waiting:
                ray.cancel(ref, force=True)
            raise UserError(
                f"The Ray cluster gave no result for {timeout:.0f} s with {len(waiting)} tasks "
                "still to come. Look at 'ray status' for nodes that died or resources that never "
                "come, then run the same command again: finished steps are kept."
            )
    return values
