"""What a node of a cluster does not see is refused before anything is computed."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from PIL import Image

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.run import pipeline, reach
from zoo_search.run.run import Run

JOB = {
    "name": "a",
    "zoo": {"m": {"arch": "resnet10t", "weights": None}},
    "init": "random",
    "input_size": 32,
    "similarity": {"fraction": 1.0, "batch_size": 4},
}


def write_images(folder: Path, colour: str = "red") -> None:
    for name in ("cat", "dog"):
        for number in range(6):
            place = folder / "train" / name / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), colour).save(place)


SCRIPT = """
import ctypes, json, os, subprocess, sys
from pathlib import Path

sys.path.insert(0, TESTS)
from test_reach import JOB, write_images
from ray.cluster_utils import Cluster
from zoo_search import cluster as engine
from zoo_search.core.errors import UserError
from zoo_search.run import pipeline
from zoo_search.run.reach import check_reach
from zoo_search.run.run import Run

place = Path(sys.argv[1])
for name in ("seen", "hidden", "other"):
    write_images(place / name / "images")
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
libc = ctypes.CDLL(None, use_errno=True)
with open("/proc/thread-self/ns/mnt") as here:
    # The second node has mounts of its own, as another machine has: two folders hold other things.
    assert libc.unshare(0x00020000) == 0
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for name in ("hidden", "other"):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place / name], check=True)
    write_images(place / "other/images", "blue")
    node = cluster.add_node(num_cpus=1)
    assert libc.unshare(0x00000200) == 0  # from threads that were started meanwhile
    assert libc.setns(here.fileno(), 0) == 0
told = {"node": node.node_id[:6]}

def ask(images, directory):
    job = JOB | {"dataset": {"name": "folder", "path": str(place / images / "images")}}
    run = Run.open(job, str(place / directory / "run"), cluster.address)
    try:
        check_reach(run, ["similarity", "reassemble"])
        return "seen"
    except UserError as error:
        return str(error)

told["seen"] = ask("seen", "seen")
told["hidden"] = ask("hidden", "seen")
told["other"] = ask("other", "seen")
told["directory"] = ask("seen", "hidden")
job = JOB | {"dataset": {"name": "folder", "path": str(place / "hidden/images")}}
try:
    whole = str(place / "seen/whole")
    pipeline.run(job, until="similarity", directory=whole, address=cluster.address)
except UserError as error:
    told["run"] = str(error)
told["made"] = sorted(os.listdir(place / "seen/whole"))
print(json.dumps(told))
engine.disconnect()
cluster.shutdown()
"""


def has_own_mounts() -> bool:
    """Whether a process may have mounts of its own here."""
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x00020000) != 0)"
    can = hasattr(ctypes.CDLL(None), "unshare")
    return can and subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.cluster
def test_two_nodes_of_which_one_sees_less(private_home: Path, tmp_path: Path) -> None:
    if not has_own_mounts():
        pytest.skip("only root can give a node mounts of its own")
    script = SCRIPT.replace("TESTS", repr(str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["seen"] == "seen"
    for case, what, why in (
        ("hidden", f"dataset.path: {tmp_path}/hidden/images", "FileNotFoundError"),
        ("other", f"dataset.path: {tmp_path}/other/images", "others"),
        ("directory", f"run directory {tmp_path}/hidden/run", "No such file"),
        ("run", f"dataset.path: {tmp_path}/hidden/images", "FileNotFoundError"),
    ):
        for words in (told["node"], what, why, "Nothing has been computed"):
            assert words in told[case], (case, told[case])
        assert "\n" not in told[case]
    assert "zoo.json" not in told["made"]


def test_a_run_on_this_machine_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run = Run.open(JOB | {"dataset": "digits"}, str(tmp_path / "run"), "local")
    reach.check_reach(run, ["reassemble"])
    assert not (tmp_path / "run").exists()


def test_what_a_node_says(tmp_path: Path) -> None:
    """Each half of the question alone, without a cluster."""
    from zoo_search.config import DatasetConfig
    from zoo_search.data import open_dataset

    write_images(tmp_path / "images")
    data = open_dataset(DatasetConfig(name="folder", path=str(tmp_path / "images")))
    ids = data.index["id"].to_pylist()
    here = reach.images_seen(data.reader, ids)
    assert all(each.startswith("sha256:") for each in here.values())
    (tmp_path / "images" / ids[0]).unlink()
    there = reach.images_seen(data.reader, ids)
    assert [name for name in ids if there[name] != here[name]] == ids[:1]
    with pytest.raises(UserError, match=r"The node n of the cluster does not see .* of 12 images"):
        reach._compare("n", "dataset.path: x", "images", here, there)
    store = RunStore(tmp_path / "run")
    store.write_text("mark", "mark")
    assert set(reach.directory_seen(store.url, "mark").values()) == {reach._hash(b"mark")}
    assert "No such file" in reach.directory_seen(store.url, "none")["none"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mark"]


def test_memory_of_this_process_is_no_place_for_workers() -> None:
    """Steps without Ray may write there; what starts workers may not."""
    place = f"memory://{uuid.uuid4().hex}/run"
    run = Run.open(JOB | {"dataset": "digits"}, place)
    with pytest.raises(UserError, match="lies in the memory of this process"):
        run.connect()
    made = pipeline.run(JOB | {"dataset": "digits"}, until="zoo", directory=place)
    assert made.store.exists("zoo.json")
