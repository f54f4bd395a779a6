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

from zoo_search.errors import UserError
from zoo_search.partition.actors import Job, actors
from zoo_search.partition.polish import polish
from zoo_search.partition.problem import from_table
from zoo_search.partition.restarts import merge, restart_seeds, run_restarts
from zoo_search.partition.step import search

DEPTHS = [8, 12, 16, 17, 24, 33] * 4


def solvers():
    """The processes of this test's actors."""
    found = psutil.Process().children(recursive=True)
    return [
        process
        for process in found
        if process.status() != psutil.STATUS_ZOMBIE and "::_Solver" in " ".join(process.cmdline())
    ]


@pytest.mark.slow
def test_one_two_and_four_actors_give_the_bits_of_one_process(ray_cluster, zoo_table, same):
    method = "exact"
    problem, seeds = from_table(zoo_table(DEPTHS)), restart_seeds(5, 60)
    here = polish(problem, method, run_restarts(problem, method, seeds))
    for workers in (1, 2, 4):
        same(search(problem, method, seeds, workers=workers, worth_a_worker=0.0), here)
    same(search(problem, method, seeds, worth_a_worker=np.inf), here)


def test_an_actor_that_is_killed_costs_nothing_but_time(ray_cluster, zoo_table, same):
    problem, seeds = from_table(zoo_table(DEPTHS)), restart_seeds(6, 120)
    here = run_restarts(problem, "exact", seeds)
    jobs = [Job(run_restarts, ("exact", seeds[low : low + 5])) for low in range(0, 120, 5)]
    killed = []

    def kill_one(part):
        if not killed:
            victim = solvers()[0]
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)
            assert len(part.seeds) == 5

    with actors(problem, 2) as group:
        far = group.run(jobs, kill_one)
        assert killed[0] not in {process.pid for process in solvers()}
        again = group.run(jobs[:4], lambda part: None)  # the group is as good as new
    assert len(killed) == 1
    same(merge(far), here)
    same(merge(again), run_restarts(problem, "exact", seeds[:20]))
    deadline = time.monotonic() + 30
    while solvers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert solvers() == []


@pytest.mark.slow
def test_a_job_that_kills_every_actor_is_given_up(ray_cluster, zoo_table):
    def die(problem):
        os.kill(os.getpid(), signal.SIGKILL)

    problem = from_table(zoo_table([8, 12]))
    with actors(problem, 2) as group, pytest.raises(UserError, match="died 5 times"):
        group.run([Job(die, ())], lambda part: None)


def test_an_error_in_the_work_is_told_as_it_is(ray_cluster, zoo_table):
    problem = from_table(zoo_table([8, 12]))
    job = Job(run_restarts, ("exat", restart_seeds(0, 2)))
    with actors(problem, 1) as group, pytest.raises(UserError, match="Did you mean 'exact'"):
        group.run([job], lambda part: None)


NODE_DIES = """
import json
import time
import numpy as np
from ray.cluster_utils import Cluster

from zoo_search import engine
from zoo_search.partition.actors import Job, actors
from zoo_search.partition.problem import from_table
from zoo_search.partition.restarts import merge, restart_seeds, run_restarts
from zoo_search.similarity import ModelCuts, SimilarityTable

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
joined = engine.connect(cluster.address)
rng = np.random.default_rng(0)
models = {f"m{i}": ModelCuts([str(c) for c in range(17)], [1] * 16, [1] * 16) for i in range(24)}
values = rng.random((408, 408))
problem = from_table(SimilarityTable(models, (values + values.T) / 2))
seeds = restart_seeds(0, 160)
jobs = [Job(run_restarts, ("exact", seeds[low:low + 4])) for low in range(0, 160, 4)]
told = []

def lose_the_node(part):
    told.append(len(part.seeds))
    if len(told) == 6:
        cluster.remove_node(second, allow_graceful=False)

with actors(problem, 2) as group:
    far = merge(group.run(jobs, lose_the_node, timeout=120))
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
