"""Curves as TensorBoard reads them: event files in ``logs/<network>`` of the run directory."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore

LOGS = "logs"
"""Folder of the run directory that holds all logs."""

_START, _END = "events.out.tfevents.", ".zoo-search"  # of file names; between them, seconds
_TAKEN = ("wandb", "mlflow")
_LONGEST = 200


def events_folder(network: str) -> str:
    """Return the folder of a network's curve in the run directory; different names differ.

    Letters, digits and ``_.-~`` stay, a space becomes ``+``, all else ``%XX`` as in a URL.
    """
    name = quote_plus(network)
    if name in ("", *_TAKEN) or name[0] == ".":
        name = f"%{ord(name[0]):02X}{name[1:]}" if name else "%"
    if len(name) > _LONGEST:  # file systems allow 255
        name = f"{name[: _LONGEST - 20]}%{hashlib.sha256(network.encode()).hexdigest()[:16]}"
    return f"{LOGS}/{name}"


class EventFile:
    """One event file of a network; each training, and each that goes on, writes one of its own.

    In a local run directory it is written in place, in a remote one aside and then copied after
    each call. TensorBoard reads the files of a folder by name, so each name is later than those
    before it. What earlier files hold of the steps that are written anew is purged: by the mark of
    a restart, or since a step comes again.
    """

    def __init__(self, store: RunStore, folder: str) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import RecordWriter

        names = [name for name in store.list(folder) if name.startswith(_START)]
        taken = [int(name[len(_START) :].split(".")[0]) for name in names]
        name = f"{_START}{max([int(time.time()), *(number + 1 for number in taken)]):010d}{_END}"
        self._store, self._name = store, f"{folder}/{name}"
        self._aside = None if store.is_local else tempfile.TemporaryDirectory()
        place = Path(self._aside.name if self._aside else store.path(folder))
        place.mkdir(parents=True, exist_ok=True)
        self._file = place / name
        self._records = RecordWriter(str(self._file))
        self._last = math.inf  # step; what lies there or before is repeated
        self._put(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of an epoch; raises OSError if they do not get there now.

        They do so with the next call then, if the run directory can be written again.
        """
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        if step <= self._last:
            mark = SessionLog(status=SessionLog.START)
            self._put(Event(wall_time=time.time(), step=step, session_log=mark))
        self._last = step
        self.result(step, values)

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """Write values that belong to a step that is there; raises as :meth:`epoch` does."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._put(Event(wall_time=time.time(), step=step, summary=Summary(value=found)))
        self._records.flush()
        if self._aside:
            self._store.write_bytes(self._name, self._file.read_bytes())

    def close(self, failed: bool) -> None:
        """End the file."""
        self._records.close()
        if self._aside:
            self._aside.cleanup()

    def _put(self, event: object) -> None:
        self._records.write(event.SerializeToString())  # type: ignore[attr-defined]
