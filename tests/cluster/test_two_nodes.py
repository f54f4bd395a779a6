"""Several Ray nodes on one machine, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json
import numpy as np
from ray.cluster_utils import Cluster

from zoo_search import cluster as engine
from zoo_search.cli import doctor
from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.solvers.restarts import restart_seeds, run_restarts
from zoo_search.partitions.executor import OnHosts
from zoo_search.similarities import ModelCuts, SimilarityTable

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
joined = engine.connect(cluster.address)
rng = np.random.default_rng(0)
names = [f"m{i}" for i in range(6)]
models = {n: ModelCuts([str(i) for i in range(9)], [1] * 8, [1] * 8) for n in names}
values = rng.random((54, 54))
table = SimilarityTable(models, (values + values.T) / 2)
problem = from_table(table, k=3, eps=0.5)
seeds = restart_seeds(0, 40)
with OnHosts(problem, worth=0.0) as hosts:
    far = hosts.run(run_restarts, "exact", seeds, 7, lambda share: None)
near = run_restarts(problem, "exact", seeds)
checks = doctor.examine(cluster.address)
print(json.dumps({
    "nodes": joined.nodes,
    "cpus": joined.cpus,
    "address": joined.address == cluster.address,
    "same": bool(np.array_equal(far.objectives, near.objectives)),
    "doctor": [c.found for c in checks if c.name == "ray cluster"],
    "compared": sum(c.name.startswith("node ") for c in checks),
}))
engine.disconnect()
cluster.shutdown()
"""


@pytest.mark.cluster
def test_two_nodes_are_joined_and_give_the_answer_of_one_process(
    private_home: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert (told["nodes"], told["cpus"], told["address"], told["same"]) == (2, 2, True, True)
    assert "2 nodes, 2 CPUs" in told["doctor"][0]
    assert told["compared"] == 2
