"""What a run is doing, told in its directory while it does it: for people, and no step looks at it.

``progress.json`` is written when a step begins and every few seconds after that, aside and then put
in place. It goes with the process that ends well. One that was killed leaves it as it was; one that
was stopped, or stopped by itself, says so there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from zoo_search import cluster
from zoo_search.core import progress
from zoo_search.core.errors import first_line
from zoo_search.core.redaction import shown
from zoo_search.core.store import RunStore
from zoo_search.run.owner import this_process

PROGRESS = "progress.json"
"""Says which process is in which step of a run, how far, and when it said so."""
_EVERY = 5.0  # seconds, on a disk
_EVERY_REMOTE = 30.0  # likewise, on object storage, where each costs a request
_PATIENCE = 10.0  # seconds that the end of a run waits for a report that is being written


class Heartbeat:
    """Tells of one run; written from a thread of its own."""

    def __init__(self, store: RunStore) -> None:
        self._store, self._me = store, this_process()
        self._step, self._since = "", time.time()

    def begin(self, step: str) -> None:
        """Say which step begins; empty: what comes before the first."""
        self._step, self._since = step, time.time()
        self.tell()

    def tell(self, ended: str | None = None) -> None:
        """Write where the run stands; ``ended`` says why it goes no further.

        What cannot be written is left out: the run needs it for nothing.
        """
        bar = progress.innermost()
        doing: dict[str, object] = {} if bar is None else {"doing": bar.title, "text": bar.text()}
        if bar is not None and bar.counts:
            doing["share"] = round(bar.share, 4)
        said = {
            **self._me,
            "step": self._step,
            "step_since": self._since,
            **doing,
            "beat": time.time(),
            "ray_job": cluster.job_id(),
            **({} if ended is None else {"ended": ended}),
        }
        with contextlib.suppress(Exception):  # each storage has errors of its own
            self._store.write_json(PROGRESS, said)


@contextlib.contextmanager
def telling(store: RunStore) -> Iterator[Heartbeat]:
    """Tell in a run directory what is done inside the block, by its heartbeat and its bars."""
    told, ended = Heartbeat(store), threading.Event()

    def beat() -> None:
        while not ended.wait(_EVERY if store.is_local else _EVERY_REMOTE):
            told.tell()

    def stop() -> None:
        ended.set()
        thread.join(_PATIENCE)

    told.begin("")
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield told
    except BaseException as error:
        stop()
        stopped = isinstance(error, KeyboardInterrupt)
        told.tell(ended="stopped by Ctrl-C" if stopped else shown(first_line(error)))
        raise
    stop()
    with contextlib.suppress(Exception):
        store.remove(PROGRESS)
