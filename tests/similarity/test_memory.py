"""Ten times the images, the same memory: every process, Ray's own too, and the object store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, re, sys, threading, time
from pathlib import Path

MARKS = {  # the last that fits
    "worker": ["ray::", "default_worker"],
    "GramActor": ["GramActor"],
    "Ray Data's account": ["_StatsActor", "_AutoscalingCoordinator"],
    "dashboard agent": ["DashboardAgent", "dashboard/agent"],
    "runtime agent": ["RuntimeEnvAgent", "runtime_env/agent"],
    "dashboard": ["dashboard/dashboard"],
    "monitor": ["autoscaler", "monitor.py"],
    "log monitor": ["log_monitor"],
    "gcs_server": ["gcs_server"],
    "raylet": ["raylet/raylet"],
}

def peaks(found):
    # Without the pages shared with the object store: Ray touches those of its one arena in turn.
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = (place / "status").read_text()
            title = (place / "cmdline").read_bytes().replace(b"\\0", b" ").decode()
            session = int((place / "stat").read_text().rsplit(")", 1)[1].split()[3])
        except (OSError, ValueError, ProcessLookupError):
            continue
        own_pages = sum(map(int, re.findall(r"Rss(?:Anon|File):\\s+(\\d+) kB", status))) * 1024
        if own_pages and session == own:
            role, before = found.get(place.name, ("other", 0))
            # A worker is idle now and decodes then; once it serves as an actor, it stays that one.
            for word, marks in MARKS.items():
                if any(mark in title for mark in marks):
                    role = word
            if place.name == str(pid):
                role = "driver"
            found[place.name] = (role, max(before, own_pages))

def main():
    import ray, timm, torch
    from zoo_search import engine
    from zoo_search.config import DatasetConfig, SimilarityConfig, ZooEntry
    from zoo_search.data import open_dataset
    from zoo_search.similarity.step import make
    from zoo_search.store import RunStore
    from zoo_search.zoo.models import ZooModel
    from zoo_search.zoo.preprocess import Preprocess

    torch.manual_seed(0)
    zoo = {}
    kind = {"img_size": 160, "patch_size": 32, "depth": 2}
    for name in ("a", "b"):
        net = timm.create_model("vit_tiny_patch16_224", **kind).eval()
        entry = ZooEntry(arch="v")
        zoo[name] = ZooModel(name, entry, net, Preprocess((160, 160)), "v", None, name, "")
    subset = open_dataset(DatasetConfig(name="mnist5k")).select(limit=int(sys.argv[2]))
    engine.connect("local", num_cpus=2)
    # One batch a window; 3,600 images more are 276 MB, of which no process may see a trace.
    config = SimilarityConfig(batch_size=50, window_mb=8)
    found, done, store = {}, threading.Event(), [0]

    def watch():
        whole = ray.cluster_resources()["object_store_memory"]
        while not done.wait(0.1):
            peaks(found)
            store.append(whole - ray.available_resources().get("object_store_memory", whole))

    thread = threading.Thread(target=watch)
    thread.start()
    made = make(zoo, subset, config, 0, RunStore(sys.argv[1]))
    done.set()
    thread.join()
    peaks(found)
    roles = {}
    for role, peak in found.values():
        roles[role] = max(roles.get(role, 0), peak)
    print(json.dumps({"roles": roles, "forwards": made.forwards, "store": max(store)}))

if __name__ == "__main__":
    import os
    pid, own = os.getpid(), os.getsid(0)
    main()
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT, encoding="utf-8")
    told = {}
    for images in (400, 4000):
        command = [sys.executable, str(script), str(tmp_path / str(images)), str(images)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=900, start_new_session=True,
            env=os.environ | {"HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told[images] = json.loads(done.stdout.splitlines()[-1])
    assert told[4000]["forwards"] == {"a": 80, "b": 80}
    few, many = told[400]["roles"], told[4000]["roles"]
    print("\npeak own MB          400 images   4000 images")
    for role in few:
        print(f"{role:18s} {few[role] / 1e6:12.0f} {many.get(role, 0) / 1e6:13.0f}")
    assert {"driver", "GramActor", "worker", "raylet", "gcs_server"} <= many.keys()
    assert few.keys() == many.keys()
    print(
        f"{'object store':18s} {told[400]['store'] / 1e6:12.0f} {told[4000]['store'] / 1e6:13.0f}"
    )
    assert told[4000]["store"] < 80e6  # all images are 307 MB
    for role in few:  # the raylet is small, and keeps some MB of records of tasks
        assert many[role] < max(1.15 * few[role], few[role] + 10e6), role
