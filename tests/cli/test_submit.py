"""A job for a cluster, and its log."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray.job_submission
import typer
from ray.job_submission import JobStatus
from ray_head import ray_head

from zoo_search.cli.submit import submit
from zoo_search.core.errors import UserError
from zoo_search.run.upload import most


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "my job.yaml"
    path.write_text("name: a\nzoo: {m: {arch: resnet18}}\ndataset: digits\n", encoding="utf-8")
    return path


class Client:
    """Stands for the job server of a cluster that is not this machine."""

    asked: ClassVar[list[dict[str, Any]]] = []
    status = JobStatus.SUCCEEDED

    def __init__(self, address: str) -> None:
        assert address == "http://head:8265"

    def submit_job(self, **options: Any) -> str:
        with zipfile.ZipFile(options["runtime_env"]["working_dir"]) as archive:
            options["names"] = sorted(archive.namelist())
        self.asked.append(options)
        return "job_1"

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        assert name == "job_1"
        for lines in ("zoo …\n", "zoo: made in 1.0 s\n"):
            yield lines

    def get_job_status(self, name: str) -> JobStatus:
        return self.status


@pytest.mark.parametrize(("status", "code"), [(JobStatus.SUCCEEDED, 0), (JobStatus.FAILED, 1)])
def test_the_folder_travels_and_the_log_is_told(
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: JobStatus,
    code: int,
) -> None:
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    monkeypatch.setattr(Client, "status", status)
    monkeypatch.chdir(job.parent)
    with pytest.raises(typer.Exit) as done:
        submit(job=job, change=["seed=3"], address="http://head:8265", directory="s3://bucket/a")
    assert done.value.exit_code == code
    told = capsys.readouterr()
    asked = Client.asked.pop()
    command = "zoo-search run 'my job.yaml' --address auto --dir s3://bucket/a --set seed=3"
    assert asked["entrypoint"] == command
    assert asked["names"] == ["my job.yaml"]
    assert told.out.splitlines() == [
        "submitted as job_1", "results  s3://bucket/a", "zoo …", "zoo: made in 1.0 s",
        f"job_1: {status}", "results  s3://bucket/a",
    ]  # fmt: skip
    assert told.err == "travels: 1 file, 0.0 MB: my job.yaml\n"


@pytest.mark.parametrize("directory", [None, "runs/a", "memory://a/b"])
def test_results_outlive_the_job(
    job: Path, monkeypatch: pytest.MonkeyPatch, directory: str | None
) -> None:
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    with pytest.raises(UserError, match=r"--dir .*(with the job|ends with it)"):
        submit(job=job, change=None, address="http://head:8265", directory=directory)
    assert not Client.asked


def test_what_is_too_large_is_told_before_it_travels(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    with (job.parent / "w.safetensors").open("wb") as file:
        file.truncate(2 * most())
    text = job.read_text().replace("resnet18", "resnet18, weights: w.safetensors")
    job.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"too large.*takes 0\.1 GB.*w\.safetensors \(0\.2 GB\)"):
        submit(job=job, change=None, address="http://head:8265", directory="/shared/a")
    assert not Client.asked
    assert "travels: 2 files, 0.2 GB" in capsys.readouterr().err


def test_a_run_file_with_a_mistake_goes_nowhere(job: Path) -> None:
    job.write_text("name: a\n", encoding="utf-8")
    with pytest.raises(UserError, match="'zoo' is missing"):
        submit(job=job, change=None, address="http://head:8265", directory=None)


def test_no_server_is_a_user_error(job: Path) -> None:
    with pytest.raises(UserError, match=r"No Ray job server answers at http://127.0.0.1:9"):
        submit(job=job, change=None, address="http://127.0.0.1:9", directory=None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a head on this machine, and the environment to reach it with."""
    (tmp_path / "home").mkdir()
    short = tempfile.mkdtemp(dir="/tmp")  # else Ray notes this head for all of this machine
    there = Path(sys.executable).parent  # of zoo-search
    env = {
        **os.environ, "HOME": str(tmp_path / "home"), "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16), "PATH": f"{there}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_TMPDIR": short,
    }  # fmt: skip
    with ray_head(1, env) as address:
        yield address, env
    shutil.rmtree(short, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_finds_what_run_finds(server: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """As a user has it: run files in jobs/, images beside that folder, results where one is."""
    import time

    from PIL import Image

    project, (address, env) = tmp_path / "my project", server
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(8):
                place = project / "images/pets" / split / name / f"{number}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (number * 20, 0, 0)).save(place)
    (project / "jobs").mkdir()
    (project / "nets.py").write_text(
        "import timm\ndef net():\n    return timm.create_model('resnet10t', num_classes=3)\n"
    )
    (project / "jobs/pets.yaml").write_text(
        "name: pets\ninput_size: 32\ninit: random\n"
        "dataset: {name: folder, path: images/pets}\n"
        "zoo: {m: {arch: 'module:nets:net', weights: null}, n: {arch: resnet10t, weights: null}}\n"
        "similarity: {fraction: 1.0, batch_size: 8}\npartition: {k: 2, eps: 1, restarts: 3}\n"
        "search: {sampler: random, fit_images: 16, batches: 1, batch_size: 8}\n"
        "finetune: {winners: 1, candidates: 1, tries: 1, epochs: 1, seeds: 1, finalists: 1,\n"
        "           protocol: frozen, baselines: best_single}\n"
    )
    command = [sys.executable, "-m", "zoo_search", "submit", "jobs/pets.yaml",
               "--address", address, "--set", "search.trials=2"]  # fmt: skip
    for _ in range(30):
        done = subprocess.run(
            command, cwd=project, env=env, capture_output=True, text=True, timeout=600, check=False
        )
        if "No available agent" not in done.stderr and "No Ray job" not in done.stderr:
            break  # all of it is up
        time.sleep(2)
    results = project / "runs/pets"
    assert f"results  {results}" in done.stdout.splitlines(), done.stdout + done.stderr
    assert "images/pets (dataset.path), Python files of my project" in done.stderr
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-3000:]
    assert json.loads((results / "zoo.json").read_text())
    assert (results / "report.html").is_file()
    assert "dataset.path" not in done.stdout  # nothing was missing there
