"""A real Ray head with its job server, in processes of its own; it ends with who started it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

_HEAD = """
import sys
from ray.cluster_utils import Cluster

cpus, port, agent = map(int, sys.argv[1:])
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": cpus, "include_dashboard": True, "dashboard_host": "127.0.0.1",
    "dashboard_port": port, "dashboard_agent_listen_port": agent,
})
print("up", flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def ray_head(cpus: int, env: Mapping[str, str]) -> Iterator[str]:
    """Give the address of the job server of a head with so many CPUs, started in an environment."""
    for _ in range(3):  # Ray gives its processes 30 s, which a busy machine may not keep
        ports = _free_ports(2)
        head = subprocess.Popen(
            [sys.executable, "-c", _HEAD, str(cpus), *map(str, ports)],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert head.stdin is not None
        assert head.stdout is not None
        if head.stdout.readline() == "up\n":
            break
        head.wait(60)
    else:
        pytest.fail("no head started")
    yield f"http://127.0.0.1:{ports[0]}"
    head.stdin.close()
    head.wait(60)


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody has: other clusters may have the usual ones."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports
