"""Waits for tasks on a real Ray: they go on as long as anything happens, and no longer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from zoo_search import cluster
from zoo_search.core.errors import UserError
from zoo_search.core.timeout import TIMEOUT


def test_results_come_in_order_and_are_told_as_they_arrive(
    ray_cluster: None, tmp_path: Path
) -> None:
    """The first task ends only when the second one's result was told."""
    import ray

    told_second = tmp_path / "told"

    @ray.remote(num_cpus=0.25)
    def first() -> str:
        while not told_second.exists():
            time.sleep(0.01)
        return "first"

    @ray.remote(num_cpus=0.5)  # other resources than the first: never queued behind it
    def second() -> str:
        return "second"

    told: list[tuple[int, str]] = []

    def tell(index: int, value: str) -> None:
        told.append((index, value))
        if value == "second":
            told_second.touch()

    values = cluster.gather([first.remote(), second.remote()], timeout=60, on_result=tell)
    assert values == ["first", "second"]
    assert told == [(1, "second"), (0, "first")]


def test_waiting_in_vain_ends_with_advice(ray_cluster: None) -> None:
    import ray

    @ray.remote(resources={"a device that no node has": 1})
    def never() -> None:
        return None

    expected = r"waiting for a token: .*no progress for 1 s.*ray status.*same command.*'timeout'"
    with pytest.raises(UserError, match=expected):
        cluster.gather([never.remote()], what="a token", timeout=1.0)


def test_a_hanging_task_ends_the_wait_and_is_cancelled(ray_cluster: None, tmp_path: Path) -> None:
    import ray

    started = tmp_path / "started"

    @ray.remote(num_cpus=2)
    def hang(number: int) -> int:
        if number:
            started.touch()
            time.sleep(600)
        return number

    ray.get(hang.remote(0))  # so that a worker runs
    told: list[int] = []
    begun = time.monotonic()
    with pytest.raises(UserError, match="no progress for 3 s"):
        cluster.gather(
            [hang.remote(n) for n in (0, 1)], timeout=3.0, on_result=lambda i, _: told.append(i)
        )
    assert told == [0]
    assert started.exists()
    assert 3 < time.monotonic() - begun < 30
    assert ray.get(hang.remote(0), timeout=60) == 0  # its CPUs are free again


@pytest.mark.slow
def test_slow_progress_is_waited_for(ray_cluster: None) -> None:
    import ray

    @ray.remote(num_cpus=2)
    def slow(number: int) -> int:
        if number:
            time.sleep(2.2)
        return number

    ray.get(slow.remote(0))
    begun = time.monotonic()
    assert cluster.gather([slow.remote(n) for n in (1, 2, 3)], timeout=5.0) == [1, 2, 3]
    assert time.monotonic() - begun > 6.5


@pytest.mark.slow
def test_a_pulse_keeps_one_long_task_alive(ray_cluster: None) -> None:
    import ray

    @ray.remote(num_cpus=2)
    def long(pulse: Any, beats: int) -> str:
        for _ in range(beats):
            pulse.beat.remote()
            time.sleep(1.0)
        return "done"

    pulse = cluster.pulse()
    ray.get([pulse.look.remote(), long.remote(pulse, 0)])
    assert cluster.gather([long.remote(pulse, 6)], timeout=3.0, pulse=pulse) == ["done"]
    assert ray.get(pulse.look.remote())[0] == 6
    with pytest.raises(UserError, match="no progress"):  # the same task, unheard
        cluster.gather([long.remote(pulse, 6)], timeout=3.0)


@pytest.mark.slow
def test_a_pulse_that_died_is_no_error(ray_cluster: None) -> None:
    import ray

    @ray.remote(num_cpus=2)
    def quick() -> int:
        time.sleep(1.5)
        return 1

    pulse = cluster.pulse()
    ray.get(pulse.look.remote())
    ray.kill(pulse)
    assert cluster.gather([quick.remote()], timeout=60.0, pulse=pulse) == [1]


def test_the_timeout_of_a_run_file_is_that_of_later_waits(ray_cluster: None) -> None:
    import ray

    @ray.remote(resources={"a device that no node has": 1})
    def never() -> None:
        return None

    cluster.set_timeout(1.0)
    try:
        with pytest.raises(UserError, match="no progress for 1 s"):
            cluster.gather([never.remote()])
    finally:
        cluster.set_timeout(TIMEOUT)
