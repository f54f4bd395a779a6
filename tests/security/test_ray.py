"""A local Ray: whoever reaches a port of it without its token can run nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CODE = """
import json, os, subprocess, sys, psutil
from zoo_search import cluster
cluster.connect(num_cpus=1)
import ray
ray.get(ray.remote(lambda: 1).remote())
me = psutil.Process()
places = [
    c.laddr.ip for p in (me, *me.children(recursive=True))
    for c in p.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN
]
address = ray.get_runtime_context().gcs_address
other = subprocess.run(
    [sys.executable, "-c", f"import ray; ray.init({address!r}); print('in')"],
    # Else Ray asks at another address of this machine, where nobody listens.
    env=os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                      "RAY_AUTH_MODE": sys.argv[1], "RAY_AUTH_TOKEN": "0" * 64},
    capture_output=True, text=True, timeout=120)
mine = subprocess.run(
    [sys.executable, "-c", f"from zoo_search import cluster; import ray;"
     f"cluster.connect({address!r}); print(ray.get(ray.remote(lambda: 'in').remote()))"],
    capture_output=True, text=True, timeout=120)
said = [other.stdout, other.stderr[-2000:], mine.stdout]
print(json.dumps([places, os.environ["RAY_AUTH_TOKEN"], *said]))
"""


def test_a_local_cluster_is_on_loopback_and_wants_its_token(tmp_path: Path) -> None:
    own = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"}
    env = {name: value for name, value in os.environ.items() if name not in own}
    # Ray's sockets need a short path.
    done = subprocess.run(
        [sys.executable, "-c", CODE, "token"], capture_output=True, text=True, timeout=300,
        check=False, env=env | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    places, token, said, problem, mine = json.loads(done.stdout.splitlines()[-1])
    assert places
    assert {place.removeprefix("::ffff:") for place in places} <= {"127.0.0.1", "::1"}
    assert len(token) == 64
    assert said == ""
    assert "InvalidAuthToken" in problem
    assert mine == "in\n"  # another process of ours, at that very address
    assert not (tmp_path / ".ray/auth_token").exists()
