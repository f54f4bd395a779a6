"""A job for a cluster, and its log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray.job_submission
import typer
from ray.job_submission import JobStatus

from zoo_search.cli.submit import submit
from zoo_search.core.errors import UserError


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "my job.yaml"
    path.write_text("name: a\nzoo: {m: {arch: resnet18}}\ndataset: digits\n", encoding="utf-8")
    return path


class Client:
    """Stands for a cluster's job server."""

    asked: ClassVar[list[dict[str, Any]]] = []
    status = JobStatus.SUCCEEDED

    def __init__(self, address: str) -> None:
        assert address == "http://head:8265"

    def submit_job(self, **options: Any) -> str:
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
    with pytest.raises(typer.Exit) as done:
        submit(job=job, change=["seed=3"], address="http://head:8265", directory="s3://bucket/a")
    assert done.value.exit_code == code
    told = capsys.readouterr().out.splitlines()
    asked = Client.asked.pop()
    command = "zoo-search run 'my job.yaml' --address auto --dir s3://bucket/a --set seed=3"
    assert asked["entrypoint"] == command
    assert asked["runtime_env"] == {"working_dir": str(job.parent)}
    assert told == ["submitted as job_1", "zoo …", "zoo: made in 1.0 s", f"job_1: {status}"]


def test_a_run_file_with_a_mistake_goes_nowhere(job: Path) -> None:
    job.write_text("name: a\n", encoding="utf-8")
    with pytest.raises(UserError, match="'zoo' is missing"):
        submit(job=job, change=None, address="http://head:8265", directory=None)


def test_no_server_is_a_user_error(job: Path) -> None:
    with pytest.raises(UserError, match=r"No Ray job server answers at http://127.0.0.1:9"):
        submit(job=job, change=None, address="http://127.0.0.1:9", directory=None)
