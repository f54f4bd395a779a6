"""Run a job on a Ray cluster through its job server."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path

from zoo_search.config import load_job
from zoo_search.errors import UserError, first_line

__all__ = ["submit"]


def submit(job: Path, address: str, directory: str | None, say: Callable[[str], None]) -> int:
    """Submit ``zoo-search run`` for a run file and follow its log.

    Args:
        job: The run file; its folder travels to the cluster, so keep it small.
        address: The cluster's dashboard, such as ``http://head:8265``.
        directory: Run directory as the cluster sees it.
        say: Told each line of the log.

    Returns:
        0 if the job succeeded, else 1.

    Raises:
        UserError: If the file is not valid, or no cluster answers at the address.
    """
    load_job(job)
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"No Ray job server answers at {address} ({first_line(error)}). Give "
            "the address of the cluster's dashboard, such as http://HEAD:8265, with --address."
        ) from None
    command = ["zoo-search", "run", job.name, "--address", "auto"]
    if directory is not None:
        command += ["--dir", directory]
    name = client.submit_job(
        entrypoint=shlex.join(command),
        runtime_env={"working_dir": str(job.resolve().parent)},
    )
    say(f"submitted as {name}")

    async def follow() -> None:
        async for lines in client.tail_job_logs(name):
            say(lines.rstrip("\n"))

    asyncio.run(follow())
    status = client.get_job_status(name)
    say(f"{name}: {status}")
    return 0 if status == JobStatus.SUCCEEDED else 1
