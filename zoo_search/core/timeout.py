"""The limit on every wait: it may go on for ever as long as something happens now and then."""

from __future__ import annotations

import time

from zoo_search.core.errors import UserError

TIMEOUT = 1800.0
"""Seconds without any progress after which a wait for the cluster is given up, by default."""

_timeout = TIMEOUT


def set_timeout(seconds: float) -> None:
    """Set how long every later wait of this process goes on without any progress."""
    global _timeout
    _timeout = seconds


class Timeout:
    """The limit on one wait for ``what``, as the message calls it; by default :func:`set_timeout`.

    A link that is cut without a word leaves Ray waiting, so no wait of ours asks Ray alone.
    """

    def __init__(self, what: str, seconds: float | None = None) -> None:
        self._what = what
        self._limit = _timeout if seconds is None else seconds
        self._last = time.monotonic()

    def progress(self) -> None:
        """Note that something has happened."""
        self._last = time.monotonic()

    def check(self) -> None:
        """Raise a :class:`UserError` if nothing has happened lately."""
        if time.monotonic() - self._last > self._limit:
            raise UserError(
                f"Gave up waiting for {self._what}: the Ray cluster made no progress for "
                f"{self._limit:g} s. Look at 'ray status' for nodes that died or resources that "
                "never come, then run the same command again: what is finished is kept. If the "
                "work is that slow, raise 'timeout' (seconds) in the run file."
            )
