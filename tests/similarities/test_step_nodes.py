"""A node that dies in mid-run: what it was at is done by the others, and the table is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys, threading, time
from pathlib import Path

import timm, torch
from ray.cluster_utils import Cluster

from zoo_search import cluster as engine
from zoo_search.config import DatasetConfig, SimilarityConfig, ZooEntry
from zoo_search.data import open_dataset
from zoo_search.similarities.step import compute
from zoo_search.core.store import RunStore
from zoo_search.zoo.models import ZooModel
from zoo_search.data.preprocess import Preprocess

torch.set_num_threads(1)
torch.manual_seed(0)
net = timm.create_model("mobilenetv3_small_050").eval()
model = ZooModel("m", ZooEntry(arch="m"), net, Preprocess((32, 32)), "m", None, "m", "")
subset = open_dataset(DatasetConfig(name="digits", per_class=40)).select(limit=400)
config = SimilarityConfig(batch_size=8, window_mb=1, workers=2)
quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3,
         "health_check_timeout_ms": 1000, "health_check_initial_delay_ms": 1000}
cluster = Cluster(initialize_head=True,
                  head_node_args={"num_cpus": 1, "_system_config": quick})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
engine.connect(cluster.address)
killed = []

def kill(folder):
    while len(list(folder.rglob("[0-9]*.parquet"))) < 5:
        time.sleep(0.01)
    cluster.remove_node(nodes[1], allow_graceful=False)
    killed.append(len(list(folder.rglob("[0-9]*.parquet"))))

tables = []
for name in ("calm", "disturbed"):
    folder = Path(sys.argv[1]) / name
    if name == "disturbed":
        threading.Thread(target=kill, args=(folder,), daemon=True).start()
    tables.append(compute({"m": model}, subset, config, 0, RunStore(folder)).table.values)
print(json.dumps({"same": bool((tables[0] == tables[1]).all()), "killed_at": killed,
                  "nodes": engine.resources().nodes}))
engine.disconnect()
cluster.shutdown()
"""


@pytest.mark.cluster
def test_a_node_that_dies_changes_nothing(private_home: Path, tmp_path: Path) -> None:
    # Into files: what outlives the dead node would keep pipes open.
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
        done = subprocess.run(command, stdout=stdout, stderr=stderr, timeout=280, check=False)
    assert done.returncode == 0, err.read_text()[-3000:]
    # The dead node's last words may stand among the lines.
    told = next(
        json.loads(line) for line in out.read_text().splitlines() if line.startswith('{"same"')
    )
    assert told["same"]
    assert told["nodes"] == 2
    assert 5 <= told["killed_at"][0] < 50
