"""The batch script of SLURM: its Ray part on three machines in network namespaces; its order."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
JOB = HERE.parents[2] / "clusters" / "slurm.sbatch"
NODE = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]

SCONTROL = """#!/bin/sh
printf 'node1\\nnode2\\nnode3\\n'
"""
SRUN = """#!/bin/bash
# Stands in for srun: the command on one node, with a folder for temporary files of its own.
while [[ $1 == --* ]]; do
  case $1 in --nodelist=*) node=${1#*=} ;; esac
  shift
done
own='mkdir -p "$RAY_TMPDIR" && mount -t tmpfs tmpfs "$RAY_TMPDIR" && exec "$@"'
exec ip netns exec "$node" sh -c "$own" sh "$@"
"""
ASK = """
import json, os, sys
from zoo_search import cluster
from zoo_search.cluster.nodes import ask_nodes

def look():
    session = os.path.join(os.environ["RAY_TMPDIR"], "ray", "session_latest", "sockets")
    return [os.environ["RAY_TMPDIR"], sorted(os.listdir(session)), "RAY_AUTH_TOKEN" in os.environ]

found = cluster.connect()
print(json.dumps({"nodes": found.nodes, "cpus": found.cpus, "looks": ask_nodes(look)}), flush=True)
sys.exit(7)
"""


def programs(place: Path, **texts: str) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")
        (place / name).chmod(0o755)
    return place


@pytest.mark.exhaustive
def test_ray_runs_on_all_nodes_of_an_allocation_and_ends_with_the_command(tmp_path: Path) -> None:
    """Not in CI: Ray gives the agents of a node 15 s, which three nodes on two busy cores miss."""
    if os.geteuid() != 0 or subprocess.run([*NODE, "true"], check=False).returncode:
        pytest.skip("machines in network namespaces need root")
    script = tmp_path / "ask.py"
    script.write_text(ASK, encoding="utf-8")
    inside = [
        "bash",
        str(HERE / "slurm_nodes.sh"),
        str(programs(tmp_path / "bin", srun=SRUN, scontrol=SCONTROL)),
    ]
    done = subprocess.run(
        [*NODE, *inside, str(JOB), "python", str(script)],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path),
             "ZOO_SEARCH_DASHBOARD": "false",
             "ZOO_SEARCH_ENV": str(Path(sys.executable).parents[1])},
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert "Ray runs on 3 of 3 nodes" in told, told[-5000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert (found["nodes"], found["cpus"]) == (3, 3)
    addresses = {name.split()[0] for name in found["looks"]}
    assert addresses == {"10.99.0.1", "10.99.0.2", "10.99.0.3"}
    for folder, sockets, has_token in found["looks"].values():
        assert folder == "/tmp/zs-4711"  # short, whatever TMPDIR says
        assert sockets
        assert has_token
    assert "\ncode 7\n" in done.stdout, told[-3000:]
    assert "\nleft 0 \n" in done.stdout, told[-3000:]


RAY = """#!/bin/bash
# Stands in for ray: notes what it is asked for; a node stays until it is ended.
echo "$*" >> "$NOTES"
[[ $1 == start ]] || exit 0
trap 'echo ended >> "$NOTES"; exit' TERM
while true; do sleep 0.1; done
"""
PYTHON = f"""#!/bin/bash
if [[ $1 == - ]]; then  # the wait for all nodes
  cat > /dev/null
  until [[ $(grep -c ^start "$NOTES") == 3 ]]; do sleep 0.1; done
  exit 0
fi
exec {sys.executable} "$@"
"""


def batch(place: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start the batch script where every node is this machine and Ray is a stand-in."""
    there = programs(place / "env" / "bin", ray=RAY, python=PYTHON)
    beside = programs(
        place / "bin", scontrol=SCONTROL, hostname="#!/bin/sh\necho 127.0.0.1\n",
        srun='#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
    )  # fmt: skip
    return subprocess.Popen(
        ["bash", str(JOB), *words],
        env={"HOME": str(place), "PATH": f"{beside}:{os.environ['PATH']}",
             "NOTES": str(place / "notes"), "ZOO_SEARCH_ENV": str(there.parent),
             "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[1-3]",
             "SLURM_CPUS_PER_TASK": "4", "SLURM_GPUS_ON_NODE": "2"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_head_and_workers_have_the_allocation_and_no_list_of_processes_the_token(
    tmp_path: Path,
) -> None:
    job = batch(tmp_path, "bash", "-c", "echo $RAY_ADDRESS; exit 3")
    said = job.communicate(timeout=60)[0].decode()
    assert job.returncode == 3, said
    notes = (tmp_path / "notes").read_text(encoding="utf-8")
    started = [line for line in notes.splitlines() if line.startswith("start")]
    (head,) = [line for line in started if "--head" in line]
    workers = [line for line in started if line != head]
    assert len(workers) == 2
    address = said.split()[-1]
    port = 20000 + os.getpid() % 2500 * 5
    assert address == f"127.0.0.1:{port}"
    assert f"--port={port}" in head
    assert all(f"--address={address}" in line for line in workers)
    for line in (head, *workers):
        assert "--num-cpus=4 --num-gpus=2" in line
        assert re.search(r"[0-9a-f]{32}", line) is None
    assert notes.count("ended") == 3
    assert not Path(f"/tmp/zs-{os.getpid()}").exists()


def test_the_end_of_the_time_ends_the_command_and_ray(tmp_path: Path) -> None:
    job = batch(tmp_path, "bash", "-c", "touch $HOME/begun; exec sleep 600")
    for _ in range(600):
        if (tmp_path / "begun").exists():
            break
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == 143
    assert (tmp_path / "notes").read_text(encoding="utf-8").count("ended") == 3
    assert not Path(f"/tmp/zs-{os.getpid()}").exists()


def test_without_a_command_its_use_is_told(tmp_path: Path) -> None:
    job = batch(tmp_path)
    assert "usage: sbatch" in job.communicate(timeout=60)[0].decode()
    assert job.returncode == 2


def test_it_asks_for_whole_nodes_and_time_to_end_well() -> None:
    asked = re.findall(r"^#SBATCH (.*)$", JOB.read_text(encoding="utf-8"), re.M)
    assert {"--exclusive", "--ntasks-per-node=1", "--signal=B:TERM@120"} <= set(asked)
    assert shutil.which("bash")
