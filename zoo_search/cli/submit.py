"""``zoo-search submit``: a job on a Ray cluster, through its job server."""

from __future__ import annotations

import asyncio
import shlex
from typing import Annotated

import typer

from zoo_search.cli.options import Directory, RunFile, grouped
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.progress import working
from zoo_search.core.redaction import redacted


@grouped
def submit(
    file: RunFile,
    address: Annotated[str, typer.Option(help="Ray dashboard of the cluster: http://HEAD:8265.")],
    directory: Directory = None,
) -> None:
    """Run a job on a Ray cluster and follow its log."""
    file.load()
    for option, value in [("--dir", directory), *(("--set", each) for each in file.change or ())]:
        if value is not None and redacted(value) != value:
            raise UserError(
                f"{option}: {value} holds a key, and everybody who sees the cluster's jobs would "
                "see it in the command of this one. Give the address without it, and the key to "
                "the cluster's machines, as the storage's variables of the environment or its own "
                "file."
            )
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"No Ray job server answers at {address} ({first_line(error)}). Give "
            "the address of the cluster's dashboard, such as http://HEAD:8265, with --address."
        ) from None
    command = ["zoo-search", "run", file.job.name, "--address", "auto"]
    if directory is not None:
        command += ["--dir", directory]
    for change in file.change or ():
        command += ["--set", change]
    with working("submitting"):
        name = client.submit_job(
            entrypoint=shlex.join(command),
            # The folder of the run file travels to the cluster.
            runtime_env={"working_dir": str(file.job.resolve().parent)},
        )
    print(f"submitted as {name}")

    async def follow() -> None:
        async for lines in client.tail_job_logs(name):
            print(lines.rstrip("\n"))

    asyncio.run(follow())
    status = client.get_job_status(name)
    print(f"{name}: {status}")
    raise typer.Exit(0 if status == JobStatus.SUCCEEDED else 1)
