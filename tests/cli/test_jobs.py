"""Jobs of a cluster: sent, followed, listed, stopped. What needs a real one is slow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_server import JobServer, Tunnel, lines
from ray_head import ray_head

from zoo_search.cli import app as commands
from zoo_search.cluster.jobs import server
from zoo_search.cluster.jobs.following import Follower
from zoo_search.cluster.jobs.nodes import nodes_of
from zoo_search.cluster.jobs.shared import VARIABLE, default_directory, user
from zoo_search.core.errors import UserError

Told = tuple[int, str, str]
Call = Callable[..., Told]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Call:
    """Call a command as its user does; gives exit code, standard output and error."""

    def call(*words: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["zoo-search", *words])
        monkeypatch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as ended:
            commands.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def there() -> Iterator[JobServer]:
    made = JobServer()
    made.start()
    yield made
    made.stop()


def test_jobs_and_their_logs(there: JobServer, call: Call) -> None:
    there.grow("one\n\x1b[31mtwo\x1b[0m\n", "FAILED", 2)
    code, out, _ = call("jobs", "--address", there.address)
    assert code == 0
    assert re.search(r"digits +│ FAILED +│ .* ago .*/shared/x", out)
    assert "SECRET" not in out
    (row,) = json.loads(call("jobs", "--address", there.address, "--json")[1])
    assert (row["name"], row["state"], row["exit_code"]) == ("digits", "FAILED", 2)
    assert "SECRET" not in json.dumps(row)
    assert call("logs", "digits", "--address", there.address)[:2] == (0, "one\ntwo\n")
    code, out, _ = call("logs", "digits", "--follow", "--address", there.address)
    assert (code, out) == (2, "one\ntwo\ndigits: FAILED\n")
    code, _, err = call("logs", "digit", "--address", there.address)
    assert code == 2
    assert err.startswith(f"error: The cluster at {there.address} has no job 'digit'.")
    code, out, _ = call("stop", "digits", "--address", there.address)
    assert code == 0
    assert out.startswith("digits is over already: FAILED\nresults  /shared/x\nresume:  ")


def test_the_exit_code_of_a_shell_that_knows_no_zoo_search_is_explained() -> None:
    from zoo_search.cli.jobs.words import explained

    assert "--install" in explained(127)
    assert explained(2) == ""


def test_ctrl_c_leaves_the_job(
    there: JobServer, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: Follower) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(Follower, "follow", stopped)
    code, _, err = call("logs", "digits", "--follow", "--address", there.address)
    assert code == 130
    assert "digits runs on" in err
    assert f"zoo-search logs digits --follow --address {there.address}" in err
    assert f"zoo-search stop digits --address {there.address}" in err
    assert "finished steps are kept" not in err


@pytest.fixture(scope="module")
def short() -> Iterator[str]:
    """A folder for the files of a head where nobody here looks: as one elsewhere has."""
    folder = tempfile.mkdtemp(dir="/tmp")  # Ray's sockets want a short one
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def head(short: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a real head, and the place for results that it names to its jobs."""
    shared, home = tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("home")
    env = {
        **os.environ, "HOME": str(home), "RAY_TMPDIR": short, VARIABLE: str(shared),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    with ray_head(2, env) as address:
        client, end = until_up(address), time.monotonic() + 120
        while time.monotonic() < end:  # the node's agent comes after the dashboard
            try:
                client.submit_job(entrypoint="true")
                break
            except RuntimeError:
                time.sleep(0.5)
        yield address, shared


def until_up(address: str) -> Any:
    end = time.monotonic() + 120
    while True:
        try:
            return server.reach(address)
        except UserError:
            assert time.monotonic() < end
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_is_sent_and_ends_as_its_command(
    head: tuple[str, Path], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that the cluster lacks: what the job says there comes here, with its exit code."""
    address, shared = head
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    Path("job.yaml").write_text(
        "name: pets\ndataset: digits\nzoo: {m: {arch: resnet10t, weights: /nowhere/m.pth}}\n"
    )
    code, out, err = call("submit", "job.yaml", "--name", "pets", "--seed", "3")
    assert "submitted as pets" in out, err
    results = shared / user() / "pets"
    assert f"results  {results}" in out
    assert "error: " in out
    assert "/nowhere/m.pth" in out
    assert out.endswith(f"pets: FAILED\nresults  {results}\n")
    assert code == 2
    found = {row["name"]: row for row in json.loads(call("jobs", "--json")[1])}
    assert (found["pets"]["exit_code"], found["pets"]["directory"]) == (2, str(results))
    assert found["pets"]["command"].endswith("--seed 3")
    assert not any("printf" in row["command"] for row in found.values())  # what asked is forgotten
    code, out, _ = call("status", str(results), "--json")
    said = json.loads(out)
    assert (said["state"], said["steps"][0]["stage"]) == ("stopped", "to do")
    assert "/nowhere/m.pth" in said["ended"]

    code, out, err = call("submit", "job.yaml", "--name", "pets", "--no-wait")
    assert (code, out) == (0, f"submitted as pets-2\nresults  {results}\n")
    assert "zoo-search logs pets-2 --follow" in err
    code, _, err = call("submit", "job.yaml", "--name", "pets", "--no-wait")
    assert code == 2
    assert "--name pets: the cluster at" in err
    code, out, _ = call("stop", "pets-2")
    assert (code, out.splitlines()[0]) == (0, "pets-2: STOPPED")
    assert "note: pets-2 (STOPPED)" in call("logs", "pets")[2]


@pytest.mark.slow
def test_the_place_that_the_cluster_names(head: tuple[str, Path]) -> None:
    address, shared = head
    assert default_directory(until_up(address), "x") == f"{shared}/{user()}/x"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_log_goes_on_when_the_tunnel_is_there_again(head: tuple[str, Path]) -> None:
    address, _ = head
    direct = until_up(address)
    command = "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.7; done; printf end; exit 7"
    name = direct.submit_job(entrypoint=f"bash -c '{command}'")
    tunnel = Tunnel(int(address.rpartition(":")[2]))
    written: list[str] = []
    said: list[str] = []

    def write(text: str) -> None:
        written.append(text)
        if "line 3" in text:
            tunnel.cut()
            threading.Timer(1.5, tunnel.mend).start()

    client = server.reach(tunnel.address)
    assert Follower(client, tunnel.address, name, write, said.append).follow() == "FAILED"
    told = [line for line in lines(written) if line.startswith(("line", "end"))]
    assert told == [*(f"line {n}" for n in range(1, 9)), "end"]
    assert len(said) == 2
    assert client.get_job_info(name).driver_exit_code == 7


WORKS = """
import ray, time
ray.init("auto", log_to_driver=False)

@ray.remote(num_cpus=1)
class Worker:
    def where(self):
        return 0

worker = Worker.remote()
ray.get(worker.where.remote())
print("job", ray.get_runtime_context().get_job_id(), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_node_does(head: tuple[str, Path], call: Call, tmp_path: Path) -> None:
    address, _ = head
    client = until_up(address)
    script = tmp_path / "works.py"
    script.write_text(WORKS)
    name = client.submit_job(entrypoint=f"{sys.executable} {script}")
    end = time.monotonic() + 60
    while not (found := re.search(r"job ([0-9a-f]+)", client.get_job_logs(name))):
        assert time.monotonic() < end
        time.sleep(0.2)
    (node,) = nodes_of(client, address, found[1])
    assert (node.alive, node.actors) == (True, "1 Worker")
    assert node.node.endswith("(head)")
    assert re.fullmatch(r"[\d?.]+/2", node.cpus)
    (other,) = nodes_of(client, address, "ffffffff")
    assert other.actors == ""
    code, out, _ = call("stop", name, "--address", address)
    assert (code, out.splitlines()[0]) == (0, f"{name}: STOPPED")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_somebody_with_another_token_is_told(head: tuple[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zoo_search", "jobs", "--address", head[0]],
        env={**os.environ, "RAY_AUTH_TOKEN": "0" * 32},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (problem,) = done.stderr.splitlines()
    assert "answers only those who have its token" in problem
    assert "RAY_AUTH_TOKEN_PATH" in problem
