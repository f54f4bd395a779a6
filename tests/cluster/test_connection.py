from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zoo_search
from zoo_search import cluster
from zoo_search.cluster import connection
from zoo_search.core.errors import UserError

PACKAGE = Path(zoo_search.__file__).parent


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = (
        "import sys, zoo_search, zoo_search.cli.app, zoo_search.config, zoo_search.core.store\n"
        "print([m for m in ('torch', 'ray', 'timm', 'optuna', 'ortools') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_engine_starts_ray() -> None:
    callers = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "ray.init(" in path.read_text(encoding="utf-8")
    ]
    assert callers == ["cluster/connection.py"]


def test_connecting_twice_is_connecting_once(ray_cluster: None) -> None:
    first = cluster.connect()
    assert cluster.connected()
    assert first == cluster.connect("local") == cluster.resources()
    assert first.cpus == 2
    assert first.nodes == 1


def test_an_address_without_a_cluster_is_a_user_error() -> None:
    code = (
        "from zoo_search import cluster\n"
        "from zoo_search.core.errors import UserError\n"
        "try: cluster.connect('127.0.0.1:9', timeout=3)\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "No Ray cluster answers at 127.0.0.1:9" in done.stdout


def test_a_busy_machine_gets_three_tries_and_other_errors_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Ray says where its processes are not up within its own 30 seconds."""
    import ray

    tried: list[str] = []

    def refuse(message: str) -> None:
        def init(**options: Any) -> None:
            tried.append(message)
            raise Exception(message)

        monkeypatch.setattr(ray, "init", init)

    monkeypatch.setattr(ray, "shutdown", lambda: None)
    refuse("The current node timed out during startup. This could happen because …")
    with pytest.raises(UserError, match="did not start on this machine, 3 times"):
        connection._start(1)
    refuse("port 6379 is taken")
    with pytest.raises(Exception, match="port 6379"):
        connection._start(1)
    assert len(tried) == 3 + 1


@pytest.mark.parametrize(
    ("gpus", "workers", "calls", "gpu", "expected"),
    [
        (0, None, 99, True, 8), (2, None, 99, True, 2), (2, None, 99, False, 8),
        (2, 5, 99, True, 5), (0, 5, 3, True, 3), (0, None, 0, True, 1),
    ],
)  # fmt: skip
def test_workers_else_gpus_else_cpus(
    gpus: int, workers: int | None, calls: int, gpu: bool, expected: int
) -> None:
    have = cluster.Resources(8, gpus, 1, "local")
    assert have.workers(workers, calls, gpu=gpu) == expected
