"""Part 5 of ``partition.py``: the restarts on real Ray, and what that costs."""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from zoo_tables import RESTARTS, problem_of

from zoo_search import cluster
from zoo_search.partitions.executor import OnHosts
from zoo_search.partitions.solvers.restarts import restart_seeds, run_restarts


def on_ray(models: int) -> dict[str, Any]:
    """Part 5: wall seconds; the same restarts in this process and on real clusters."""
    os.environ |= {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "HOME": tempfile.mkdtemp(), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    os.environ.pop("RAY_ADDRESS", None)
    print("part 5: wall seconds; overhead = with Ray / in this process")
    rows = [_child("local", models)]
    with _cluster(0) as address:
        rows.append(_child(address, models))
    with _cluster(1) as address:
        rows.append(_child(address, models))
    for name, row in zip(("local start", "running head", "two nodes"), rows, strict=True):
        row["where"] = name
        print(f"  {name}: " + ", ".join(f"{k} {v}" for k, v in row.items() if k != "where"))
    return {"rows": rows}


@contextmanager
def _cluster(workers: int) -> Iterator[str]:
    """Start a head with two CPUs, or one CPU and a second node with another."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2 - workers})
    for _ in range(workers):
        cluster.add_node(num_cpus=1)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def _child(address: str, models: int) -> dict[str, Any]:
    """Measure in a process of its own, as a command would run."""
    command = [sys.executable, __file__, address, str(models)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    told = next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))
    return dict(json.loads(told.removeprefix("TOLD ")))


def child(address: str, models: int) -> dict[str, Any]:
    """Time the restarts here and on the cluster at ``address``; three times, in turns."""
    problem, seeds = problem_of(0, models), restart_seeds(0, RESTARTS)
    start = time.perf_counter()
    joined = cluster.connect(address, num_cpus=2 if address == "local" else None)
    connected = time.perf_counter() - start
    here, there, two = [], [], []
    same = True
    for _ in range(3):
        start = time.perf_counter()
        near = run_restarts(problem, "exact", seeds)
        here.append(time.perf_counter() - start)
        for workers, times in ((1, there), (2, two)):
            start = time.perf_counter()
            with OnHosts(problem, workers, worth=0.0) as hosts:
                far = hosts.run(run_restarts, "exact", seeds, 25, lambda share: None)
            times.append(time.perf_counter() - start)
            same &= bool(np.array_equal(far.objectives, near.objectives))
            same &= bool(np.array_equal(far.best.cuts, near.best.cuts))
    middle = statistics.median
    return {
        "nodes": joined.nodes, "CPUs": joined.cpus, "models": models,
        "connect s": round(connected, 2), "here s": round(middle(here), 2),
        "1 actor s": round(middle(there), 2), "2 actors s": round(middle(two), 2),
        "2 actors / here": round(middle(t / h for t, h in zip(two, here, strict=True)), 2),
        "same bits": same,
    }  # fmt: skip


if __name__ == "__main__":
    print("TOLD " + json.dumps(child(sys.argv[1], int(sys.argv[2]))))
