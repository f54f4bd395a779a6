"""A node that dies under an elastic fine-tuning: it goes on with the worker that is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EPOCHS = 12
SCRIPT = """
import json, sys, threading, time
sys.path[:0] = json.loads(sys.argv[3])
from pathlib import Path

import ray._private.state
import torch
from ray.cluster_utils import Cluster
from small_runs import MIXED, Setting, train_here

from zoo_search import cluster as engine
from zoo_search.core.store import RunStore
from zoo_search.finetune import advance as advancing
from zoo_search.finetune import checkpoints, step, tuning
from zoo_search.finetune.entries import Entry

seen, ended = [], threading.Event()

def workers():
    actors = ray._private.state.actors().values()
    return sum(a["ActorClassName"] == "RayTrainWorker" and a["State"] == "ALIVE" for a in actors)

def kill(store):
    folder = checkpoints.FOLDER
    while not any(store.list(f"{folder}/{key}") for key in store.list(folder)):
        time.sleep(0.02)
    seen.append(workers())
    cluster.remove_node(node, allow_graceful=False)
    while not ended.wait(0.2):
        if now := workers():
            seen.append(now)

if __name__ == "__main__":
    torch.set_num_threads(1)
    advancing._EPOCH_SECONDS = advancing._STEP_SECONDS = 0.0
    quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3,
             "health_check_timeout_ms": 1000, "health_check_initial_delay_ms": 1000}
    cluster = Cluster(initialize_head=True,
                      head_node_args={"num_cpus": 1, "_system_config": quick})
    node = cluster.add_node(num_cpus=1)
    engine.connect(cluster.address)
    made = Setting.of(json.loads(sys.argv[2]))
    entry, curves = Entry("net", "reassembly", MIXED, {}), {}
    for name, train_all in {"calm": train_here, "disturbed": tuning.train_all}.items():
        store = RunStore(Path(sys.argv[1]) / name)
        if name == "disturbed":
            threading.Thread(target=kill, args=(store,), daemon=True).start()
        tuning.train_all = train_all
        (result,) = step.run([entry], made.zoo, made.dataset, made.job, store)
        curves[name] = [(p.epoch, p.train_loss) for p in result.protocols["frozen"].curve]
    ended.set()
    print(json.dumps({"curves": curves, "workers": seen, "nodes": engine.resources().nodes}))
    engine.disconnect()
    cluster.shutdown()
"""


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_node_that_dies_leaves_an_elastic_training_with_one_worker(
    job: dict[str, Any], private_home: Path, tmp_path: Path
) -> None:
    """FROZEN-TUNING, in which batch norms are still: what one worker gives, to rounding."""
    tuned = {
        "epochs": EPOCHS,
        "batch_size": 10,
        "protocol": ["frozen"],
        "workers": [1, 2],
        "seeds": 1,
        "validation": 0.0,
    }
    told = {key: value for key, value in job.items() if key != "init"}
    asked = json.dumps({**told, "finetune": tuned})
    script = tmp_path / "run.py"
    script.write_text(SCRIPT, encoding="utf-8")
    # Into files: what outlives the dead node would keep pipes open.
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        command = [sys.executable, str(script), str(tmp_path), asked, json.dumps(sys.path)]
        done = subprocess.run(command, stdout=stdout, stderr=stderr, timeout=500, check=False)
    assert done.returncode == 0, err.read_text()[-3000:]
    # The dead node's last words may stand among the lines.
    lines = out.read_text().splitlines()
    found = next(json.loads(line) for line in lines if line.startswith('{"curves"'))
    assert found["workers"][0] == 2
    assert found["workers"][-1] == 1
    assert found["nodes"] == 1
    disturbed, calm = found["curves"]["disturbed"], found["curves"]["calm"]
    assert [epoch for epoch, _ in disturbed] == list(range(1, EPOCHS + 1))
    for (_, ours), (_, theirs) in zip(disturbed, calm, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
