"""A limit on a wait."""

from __future__ import annotations

import time

import pytest

from zoo_search.core.errors import UserError
from zoo_search.core.timeout import TIMEOUT, Timeout, set_timeout


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have passed, to be changed by the test."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_progress_puts_the_end_off(clock: list[float]) -> None:
    wait = Timeout("a token", 10)
    clock[0] = 10.0
    wait.check()
    wait.progress()
    clock[0] = 20.0
    wait.check()
    clock[0] = 20.1
    with pytest.raises(UserError, match=r"waiting for a token: .*no progress for 10 s.*'timeout'"):
        wait.check()


def test_a_run_sets_the_limit_of_all_later_waits(clock: list[float]) -> None:
    set_timeout(3)
    try:
        wait = Timeout("a token")
    finally:
        set_timeout(TIMEOUT)
    clock[0] = 3.5
    with pytest.raises(UserError, match="no progress for 3 s"):
        wait.check()
