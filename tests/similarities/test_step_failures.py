"""Processes that are killed in mid-run: the table is that of an undisturbed run, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import similarity_to_kill
from similarity_to_kill import BATCHES

from zoo_search.cluster.hosts import Hosts
from zoo_search.config import SimilarityConfig
from zoo_search.core.store import RunStore
from zoo_search.similarities import SimilarityTable
from zoo_search.similarities.step import ARTIFACT, compute

pytestmark = [
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]
CONFIG = SimilarityConfig(batch_size=8, window_mb=1)  # two workers, many batches


def files_of(store: RunStore) -> dict[str, int]:
    """Return when each Gram file was put in place, in nanoseconds; none that is being written."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in Path(store.path("grams")).glob("*/[0-9]*.parquet")
    }


def wait_for(count: int, store: RunStore, alive: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 240
    while len(files_of(store)) < count:
        assert time.monotonic() < end, "no Gram files"
        assert alive is None or alive.poll() is None, "the driver ended too early"
        time.sleep(0.01)


def test_hosts_that_are_killed_change_nothing(zoo, subset, hosts, tmp_path) -> None:
    """SIGKILL to both processes while they work; their calls are done again."""
    import ray

    calm = compute(zoo, subset, CONFIG, 0, RunStore(tmp_path / "calm"), hosts)
    store, killed = RunStore(tmp_path / "killed"), []
    with Hosts() as victims:
        pids = ray.get([worker.actor.ping.remote() for worker in victims.take(2)])

        def kill() -> None:
            wait_for(1, store)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        threading.Thread(target=kill).start()
        disturbed = compute(zoo, subset, CONFIG, 0, store, victims)
    assert len(killed) == 2
    assert (disturbed.table.values == calm.table.values).all()
    assert disturbed.forwards == calm.forwards  # as many files, whatever was repeated
    for path in files_of(store):
        twin = path.replace("/killed/", "/calm/")
        assert pq.read_table(path).equals(pq.read_table(twin))


def test_a_driver_that_is_killed_goes_on_where_it_was(hosts: Hosts, tmp_path: Path) -> None:
    """SIGKILL to the driver; the second run does the missing batches only, and gives the same."""
    import ray

    address = ray.get_runtime_context().gcs_address

    store = RunStore(tmp_path / "killed")
    first = subprocess.Popen(
        [sys.executable, similarity_to_kill.__file__, store.url, address],
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(10, store, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = files_of(store)
    assert 10 <= len(before) < 2 * BATCHES
    assert not store.exists(ARTIFACT)

    again = similarity_to_kill.compute_in(store, hosts)
    assert sum(again.forwards.values()) == 2 * BATCHES - len(before)
    calm = similarity_to_kill.compute_in(RunStore(tmp_path / "calm"), hosts)
    assert calm.forwards["mobile"] == BATCHES
    after = files_of(store)
    assert len(after) == 2 * BATCHES
    assert {path: after[path] for path in before} == before
    table = SimilarityTable.load(tmp_path / "killed" / ARTIFACT)
    assert (table.values == calm.table.values).all()
    assert np.isfinite(table.values).all()
    assert not list(Path(store.path("grams")).rglob(".aside-*"))
