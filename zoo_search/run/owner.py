"""Which process works in a run directory, and whether it is alive, as far as that can be seen."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import psutil

from zoo_search.core.store import RunStore

OWNER = "lock.json"
"""Says which process works in a run directory: host, process, since when."""
SILENT = 300.0
"""Seconds without a sign of life after which a process on another machine counts as dead."""


def this_process() -> dict[str, object]:
    """Return what is said of this process: host, number, start, and since when it is at work."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    born = psutil.Process().create_time()
    return {"host": socket.gethostname(), "process": os.getpid(), "born": born, "since": since}


def lives(owner: Mapping[str, object]) -> bool:
    """Say whether a process may be at work: on this machine it can be seen, else by its beat."""
    try:
        if is_here(owner):
            born = psutil.Process(int(str(owner["process"]))).create_time()
            return abs(born - float(str(owner["born"]))) < 1
        return time.time() - float(str(owner["beat"])) < SILENT
    except (psutil.Error, KeyError, ValueError):
        return False


def is_here(owner: Mapping[str, object]) -> bool:
    """Say whether a process is one of this machine."""
    return owner.get("host") == socket.gethostname()


def owner_of(store: RunStore) -> dict[str, object] | None:
    """Return what is said of the process that works there; None: nothing that can be read."""
    try:
        said = store.read_json(OWNER) if store.exists(OWNER) else None
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None
