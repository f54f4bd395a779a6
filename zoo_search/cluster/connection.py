"""Start or join a cluster, quietly; no other module calls ``ray.init``.

A local cluster that was started here ends with the process; one that was joined is left as it was.
"""

from __future__ import annotations

import contextlib
import inspect
import ipaddress
import logging
import os
import secrets
import socket
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo_search.cluster import temporary
from zoo_search.core.errors import Note, UserError, first_line

_STARTS = 3
# What Ray reads from the environment, where the user has made no choice.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_TOKEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
# On macOS and Windows Ray is at 127.0.0.1 unless this is "1"; elsewhere, if it is "0".
_BEYOND_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True)
class Resources:
    """What the cluster has: logical CPUs and GPUs over all its live nodes."""

    cpus: int
    gpus: int
    nodes: int
    address: str
    """``"local"`` if the cluster was started by this process, else the address joined."""

    def workers(self, asked: int | None, calls: int, *, gpu: bool = True) -> int:
        """Return how many processes do so much work: those asked for, else one a GPU, or one a CPU.

        There are no more than calls; ``gpu`` says whether they run on GPUs where there are any.
        """
        return max(1, min(calls, asked or (self.gpus if gpu else 0) or self.cpus))


_address = "local"
_shared: dict[str, None] = {}  # folders whose modules workers can import, too


def share_modules(folder: Path) -> None:
    """Let this process, and the workers of a cluster that it starts or joins, import from a folder.

    It comes last, so that none of its modules hides an installed one.
    """
    place = str(folder.absolute())
    if place not in sys.path:
        sys.path.append(place)
    _shared[place] = None


def ship(function: object) -> None:
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

    A local one listens on 127.0.0.1 alone, and answers nobody without its token: whoever reaches a
    port of Ray can run code. The token is a random one of this process, unless ``RAY_AUTH_TOKEN``
    or ``RAY_AUTH_TOKEN_PATH`` gives one; where Ray was imported before, the one that Ray makes.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``auto`` or ``local``; None: ``RAY_ADDRESS``.
        num_cpus: CPUs of a local cluster; default: all of this machine's.
        timeout: Seconds that a cluster to be joined has to answer.

    Raises:
        UserError: If no cluster answers at the address.
    """
    global _address
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if wanted == "local" and "ray" not in sys.modules and not any(map(os.environ.get, _TOKEN)):
        # Ray reads these when it is imported.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    if ray.is_initialized():
        return resources()
    if wanted == "local":
        _start(num_cpus)
    else:
        _join(wanted, timeout)
    _address = wanted
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    # What fails is told by our own message; Ray Data would print the worker's traceback as well.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return resources()


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Let the cluster that starts inside the block listen on 127.0.0.1, unless the user chose else.

    Its processes take the setting from the environment; this one has read it already. Afterwards
    both are as before, for whatever else starts or joins a cluster.
    """
    from ray._private import ray_constants

    if _BEYOND_LOOPBACK in os.environ:
        yield
        return
    before = ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_BEYOND_LOOPBACK] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[_BEYOND_LOOPBACK]


def _start(num_cpus: int | None) -> None:
    """Start a cluster on this machine, again if it was too busy: Ray gives its processes 30 s."""
    import ray

    places = _places()
    for tries_left in range(_STARTS - 1, -1, -1):
        try:
            with _on_loopback():
                _init("local", num_cpus, dashboard=False, **places)
            return
        except Exception as error:  # Ray raises no narrower type
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if not tries_left:
                raise UserError(
                    f"Ray did not start on this machine, {_STARTS} times: its processes were not "
                    "up after 30 s. Look at what else keeps the machine busy (top), then run the "
                    "same command again: what is finished is kept."
                ) from None


def _places() -> dict[str, Any]:
    """Return where a cluster on this machine keeps its files, where Ray's own place will not do.

    Objects that find no room in memory still go to the place that was meant for large files.
    """
    folder = temporary.configured()
    if not temporary.is_too_long(folder):
        return {}
    short = temporary.short_folder()
    warnings.warn(temporary.note(folder, short), Note, stacklevel=2)
    spill = {"object_spilling_directory": folder} if os.access(folder, os.W_OK) else {}
    return {"_temp_dir": str(short / "ray"), **spill}


def _join(address: str, timeout: float) -> None:
    """Join a running cluster, or say that there is none; Ray itself would wait for minutes."""
    try:
        if address != "auto":
            host, _, port = address.removeprefix("ray://").rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), timeout) as link:
                found = ipaddress.ip_address(link.getpeername()[0])
            if found.is_loopback and not _listens_beyond(int(port)):
                with _on_loopback():
                    _init(address)
                return
        _init(address)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"No Ray cluster answers at {address} ({first_line(error)}). Start one with 'ray "
            "start --head', give its address (HOST:PORT, ray://HOST:PORT or auto) with --address "
            "or RAY_ADDRESS, or leave both away to use this machine alone."
        ) from None


def _listens_beyond(port: int) -> bool:
    """Say whether a cluster on this machine has another address than a loopback one.

    Those that start here have none. Ray asks at the machine's own address where it is given a
    loopback one, and would wait there for minutes.
    """
    import ray

    own: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    try:
        socket.create_connection((own, port), 1.0).close()
    except OSError:
        return False
    return True


def _init(
    address: str, num_cpus: int | None = None, dashboard: bool | None = None, **places: Any
) -> None:
    import ray

    if _shared:  # the working directory Ray adds itself
        places["job_config"] = ray.job_config.JobConfig(_py_driver_sys_path=list(_shared))
    ray.init(
        address=address,
        num_cpus=num_cpus,
        include_dashboard=dashboard,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **places,
    )


def connected() -> bool:
    """Say whether this process has joined a cluster, without importing Ray for the question."""
    ray = sys.modules.get("ray")
    return bool(ray is not None and ray.is_initialized())


def job_id() -> str | None:
    """Return what Ray calls this process among the drivers of its cluster; None: it is in none."""
    if not connected():
        return None
    import ray

    return str(ray.get_runtime_context().get_job_id())


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
