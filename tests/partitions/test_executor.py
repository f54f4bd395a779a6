"""Restarts on real Ray actors, one of which is killed, or its node, in mid-run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from zoo_search import cluster
from zoo_search.cluster.hosts import Hosts
from zoo_search.core.errors import UserError
from zoo_search.partitions.executor import InProcess, OnHosts
from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.search import find_restarts
from zoo_search.partitions.solvers.restarts import restart_seeds, run_restarts

DEPTHS = [8, 12, 16, 17, 24, 33] * 4


def ignore(share):
    pass


def processes():
    """Those of this test's hosts."""
    found = psutil.Process().children(recursive=True)
    return [
        process
        for process in found
        if process.status() != psutil.STATUS_ZOMBIE and "::Host" in " ".join(process.cmdline())
    ]


@pytest.mark.parametrize("method", ["exact", "kl", "random"])
def test_no_way_to_share_restarts_out_changes_the_answer(ray_cluster, zoo_table, method, same):
    assert cluster.connected()
    problem, seeds = from_table(zoo_table([8, 12, 16, 17])), restart_seeds(5, 40)
    expected = run_restarts(problem, method, seeds)
    for most in (1, 7, 40):
        same(InProcess(problem).run(run_restarts, method, seeds, most, ignore), expected)
    with Hosts() as hosts:  # of a run: they serve one problem after the other
        for most in (1, 25) if method == "exact" else (9,):
            with OnHosts(problem, hosts=hosts, worth=0.0) as executor:
                same(executor.run(run_restarts, method, seeds, most, ignore), expected)
    with OnHosts(problem, worth=np.inf) as executor:
        same(executor.run(run_restarts, method, seeds, 25, ignore), expected)


@pytest.mark.slow
def test_one_two_and_four_hosts_give_the_bits_of_one_process(ray_cluster, zoo_table, same):
    problem, seeds = from_table(zoo_table(DEPTHS)), restart_seeds(5, 60)
    here = find_restarts(problem, "exact", seeds)
    with Hosts() as hosts:
        for workers in (1, 2, 4):
            with OnHosts(problem, workers, hosts=hosts, worth=0.0) as executor:
                same(find_restarts(problem, "exact", seeds, executor), here)
    with OnHosts(problem, worth=np.inf) as executor:
        same(find_restarts(problem, "exact", seeds, executor), here)


def test_a_host_that_is_killed_costs_nothing_but_time(ray_cluster, zoo_table, same):
    problem, seeds = from_table(zoo_table(DEPTHS)), restart_seeds(6, 120)
    killed = []

    def kill_one(share):
        if not killed:
            victim = processes()[0]
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)
            assert len(share.seeds) == 5

    with OnHosts(problem, 2, worth=0.0) as executor:
        far = executor.run(run_restarts, "exact", seeds, 5, kill_one)
        assert killed[0] not in {process.pid for process in processes()}
        again = executor.run(run_restarts, "exact", seeds[:20], 5, ignore)
    assert len(killed) == 1
    same(far, run_restarts(problem, "exact", seeds))
    same(again, run_restarts(problem, "exact", seeds[:20]))
    deadline = time.monotonic() + 30
    while processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes() == []


@pytest.mark.slow
def test_restarts_that_kill_every_host_are_given_up(ray_cluster, zoo_table):
    def die(problem, method, seeds):
        os.kill(os.getpid(), signal.SIGKILL)

    problem = from_table(zoo_table([8, 12]))
    told = r"died 5 times over the same restarts of the partition.*'partition\.workers' lower"
    with OnHosts(problem, 2, worth=0.0) as executor, pytest.raises(UserError, match=told):
        executor.run(die, "exact", restart_seeds(0, 1), 1, ignore)


def test_an_error_in_the_work_is_told_as_it_is(ray_cluster, zoo_table):
    problem = from_table(zoo_table([8, 12]))
    with (
        OnHosts(problem, 1, worth=0.0) as executor,
        pytest.raises(UserError, match="Did you mean 'exact'"),
    ):
        executor.run(run_restarts, "exat", restart_seeds(0, 2), 2, ignore)


def test_hosts_that_compute_partitions_import_no_torch(ray_cluster, zoo_table):
    def told(problem, method, seeds):
        import sys

        found = {"torch", "timm", "pandas", "optuna"} & set(sys.modules)
        if found:
            raise UserError(f"{found} were imported")
        return run_restarts(problem, method, seeds)

    problem = from_table(zoo_table([8, 12]))
    with OnHosts(problem, 1, worth=0.0) as executor:
        executor.run(told, "exact", restart_seeds(0, 3), 3, ignore)


NODE_DIES = """
import json
import time
import numpy as np
from ray.cluster_utils import Cluster

from zoo_search import cluster as engine
from zoo_search.core.timeout import set_timeout
from zoo_search.partitions.executor import OnHosts
from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.solvers.restarts import restart_seeds, run_restarts
from zoo_search.similarities.table import ModelCuts, SimilarityTable

set_timeout(120)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
joined = engine.connect(cluster.address)
rng = np.random.default_rng(0)
models = {f"m{i}": ModelCuts([str(c) for c in range(17)], [1] * 16, [1] * 16) for i in range(24)}
values = rng.random((408, 408))
problem = from_table(SimilarityTable(models, (values + values.T) / 2))
seeds = restart_seeds(0, 160)
told = []

def lose_the_node(share):
    told.append(len(share.seeds))
    if len(told) == 6:
        cluster.remove_node(second, allow_graceful=False)

with OnHosts(problem, 2, worth=0.0) as executor:
    far = executor.run(run_restarts, "exact", seeds, 4, lose_the_node)
near = run_restarts(problem, "exact", seeds)
deadline = time.monotonic() + 60
while engine.resources().nodes > 1 and time.monotonic() < deadline:
    time.sleep(0.5)
print("\\nTOLD " + json.dumps({
    "nodes": joined.nodes,
    "left": engine.resources().nodes,
    "results": len(told),
    "same": all(np.array_equal(a, b) for a, b in [
        (far.objectives, near.objectives), (far.best.cuts, near.best.cuts),
        (far.best.sets, near.best.sets), (far.iterations, near.iterations)]),
}))
engine.disconnect()
cluster.shutdown()
"""


@pytest.mark.cluster
def test_a_node_that_dies_costs_nothing_but_time(private_home):
    done = subprocess.run(
        [sys.executable, "-c", NODE_DIES], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))
    told = json.loads(line.removeprefix("TOLD "))
    assert told == {"nodes": 2, "left": 1, "results": 40, "same": True}
