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

DRIVER = """
import sys
from pathlib import Path
import timm, torch
from zoo_search import cluster as engine
from zoo_search.config import DatasetConfig, SimilarityConfig, ZooEntry
from zoo_search.data import open_dataset
from zoo_search.similarities.step import compute
from zoo_search.core.store import RunStore
from zoo_search.zoo.models import ZooModel
from zoo_search.data.preprocess import Preprocess

def model(name, arch, seed, **kwargs):
    torch.manual_seed(seed)
    return ZooModel(name, ZooEntry(arch=arch), timm.create_model(arch, **kwargs).eval(),
                    Preprocess((32, 32)), arch, None, f"{arch}-{seed}", "")

if __name__ == "__main__":
    engine.connect(sys.argv[2])
    zoo = {"mobile": model("mobile", "mobilenetv3_small_050", 0),
           "vit": model("vit", "vit_tiny_patch16_224", 1, img_size=32, patch_size=8, depth=2)}
    subset = open_dataset(DatasetConfig(name="digits", per_class=40)).select(limit=400)
    config = SimilarityConfig(batch_size=8, window_mb=1)
    print(compute(zoo, subset, config, 0, RunStore(sys.argv[1])).forwards)
"""


def files_of(store: RunStore) -> dict[str, int]:
    """Return when each Gram file was put in place, in nanoseconds."""
    return {
        str(path): path.stat().st_mtime_ns for path in Path(store.path("grams")).glob("*/*.parquet")
    }


def wait_for(count: int, store: RunStore, alive: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 240
    while len(files_of(store)) < count:
        assert time.monotonic() < end, "no Gram files"
        assert alive is None or alive.poll() is None, "the driver ended too early"
        time.sleep(0.01)


def test_hosts_that_are_killed_change_nothing(zoo, subset, tmp_path) -> None:
    """SIGKILL to both processes while they work; their calls are done again."""
    import ray

    calm = compute(zoo, subset, CONFIG, 0, RunStore(tmp_path / "calm"))
    store, killed = RunStore(tmp_path / "killed"), []
    with Hosts() as hosts:
        pids = ray.get([worker.actor.ping.remote() for worker in hosts.take(2)])

        def kill() -> None:
            wait_for(1, store)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        threading.Thread(target=kill).start()
        disturbed = compute(zoo, subset, CONFIG, 0, store, hosts)
    assert len(killed) == 2
    assert (disturbed.table.values == calm.table.values).all()
    assert disturbed.forwards == calm.forwards  # as many files, whatever was repeated
    for path in files_of(store):
        twin = path.replace("/killed/", "/calm/")
        assert pq.read_table(path).equals(pq.read_table(twin))


def test_a_driver_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL to the driver; the second run does the missing batches only, and gives the same."""
    import ray

    script = tmp_path / "driver.py"
    script.write_text(DRIVER, encoding="utf-8")
    address = ray.get_runtime_context().gcs_address

    def start(folder: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(tmp_path / folder), address]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip

    store = RunStore(tmp_path / "killed")
    first = start("killed")
    wait_for(20, store, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = files_of(store)
    assert 20 <= len(before) < 100
    assert not store.exists(ARTIFACT)

    second, calm = start("killed"), None
    told = second.communicate(timeout=300)[0]
    calm = start("calm").communicate(timeout=300)[0]
    assert "'mobile': 50" in calm
    assert sum(eval(told.strip().splitlines()[-1]).values()) == 100 - len(before)
    after = files_of(store)
    assert len(after) == 100
    assert {path: after[path] for path in before} == before
    tables = [SimilarityTable.load(tmp_path / name / ARTIFACT) for name in ("killed", "calm")]
    assert (tables[0].values == tables[1].values).all()
    assert np.isfinite(tables[0].values).all()
    assert not list(Path(store.path("grams")).rglob(".aside-*"))
