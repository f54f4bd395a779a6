"""The dashboard answers the page that it serves, and nobody who comes through the browser."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from attacks import Command

from zoo_search.reassembly.journal import StudyPlace, open_study


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a study of one trial."""
    study = open_study(StudyPlace(tmp_path / "run" / "study.journal"))
    study.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    return tmp_path / "run"


@contextmanager
def dashboard(*words: str) -> Iterator[int]:
    """Start the real command; give its port."""
    server = subprocess.Popen(
        [sys.executable, "-m", "zoo_search", "dashboard", *words],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        shown = re.match(r"http://127\.0\.0\.1:(\d+)/ ", server.stdout.readline())
        assert shown
        yield int(shown[1])
    finally:
        server.terminate()
        server.wait(20)


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def studies(port: int) -> list[int]:
    status, data = ask(port, "GET", "/api/studies")
    assert status == 200
    return [study["study_id"] for study in json.loads(data)["study_summaries"]]


def test_only_the_printed_address_is_served_and_only_for_reading(run: Path) -> None:
    before = (run / "study.journal").read_bytes()
    with dashboard(str(run)) as port:
        (number,) = studies(port)
        study = f"/api/studies/{number}"
        for name in ("evil.example", f"evil.example:{port}", f"localhost:{port}", "127.0.0.1"):
            status, told = ask(port, "GET", "/api/studies", Host=name)
            assert status == 403
            assert told == f"Only http://127.0.0.1:{port}/ is served here.".encode()
        assert ask(port, "GET", "/api/studies", Origin="http://evil.example")[0] == 403
        assert ask(port, "GET", "/api/studies", Origin=f"http://127.0.0.1:{port}")[0] == 200
        for method in ("DELETE", "POST", "PUT", "PATCH"):
            status, told = ask(port, method, study)
            assert status == 405
            assert b"--writable" in told
        assert studies(port) == [number]
    assert (run / "study.journal").read_bytes() == before


def test_a_study_can_be_deleted_where_that_is_wanted_but_not_from_elsewhere(run: Path) -> None:
    with dashboard(str(run), "--writable") as port:
        (number,) = studies(port)
        study = f"/api/studies/{number}"
        assert ask(port, "DELETE", study, Origin="http://evil.example")[0] == 403
        assert studies(port) == [number]
        assert ask(port, "DELETE", study)[0] == 204
        assert studies(port) == []


def test_a_run_directory_names_no_storage_that_is_opened(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    storage = f"sqlite:///{other}"
    optuna.create_study(storage=storage, study_name="mine")
    before = hashlib.sha256(other.read_bytes()).digest()
    brought = tmp_path / "brought"
    brought.mkdir()
    (brought / "job.yaml").write_text(
        "name: x\nzoo: {a: {arch: resnet10t}}\ndataset: digits\n"
        f"search: {{storage: '{storage}'}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "zoo_search", "dashboard", str(brought)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--storage" in done.stderr
    assert hashlib.sha256(other.read_bytes()).digest() == before
    with dashboard(str(brought), "--storage", storage) as port:
        assert len(studies(port)) == 1


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[", b"- a\n", b"name: x\nzoo: 3\n", b"a: &a [*a]"])
def test_a_bad_configuration_is_one_paragraph(
    text: bytes, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_bytes(text)
    assert command("dashboard", tmp_path).refused("job.yaml")
