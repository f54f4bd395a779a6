"""``zoo-search submit``: a job on a Ray cluster, through its job server."""

from __future__ import annotations

import asyncio
import re
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo_search.cli.options import Directory, RunFile, grouped, say
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.progress import working
from zoo_search.core.redaction import redacted, shown

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


@grouped
def submit(
    file: RunFile,
    address: Annotated[str, typer.Option(help="Ray dashboard of the cluster: http://HEAD:8265.")],
    directory: Directory = None,
) -> None:
    """Run a job on a Ray cluster and follow its log.

    The run file travels with what it names by relative paths. What it names by absolute paths, and
    --dir, are places on the cluster; on this machine's own cluster, paths are as for 'run'.
    """
    config = file.load()
    for option, value in [("--dir", directory), *(("--set", each) for each in file.change or ())]:
        if value is not None and redacted(value) != value:
            raise UserError(
                f"{option}: {value} holds a key, and everybody who sees the cluster's jobs would "
                "see it in the command of this one. Give the address without it, and the key to "
                "the cluster's machines, as the storage's variables of the environment or its own "
                "file."
            )
    from zoo_search.run.upload import check_keys, upload_of

    check_keys(file.job, config)
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"No Ray job server answers at {address} ({first_line(error)}). Give "
            "the address of the cluster's dashboard, such as http://HEAD:8265, with --address."
        ) from None
    results = _results(directory, config.name, address, here=_is_here(client))
    upload = upload_of(file.job, config)
    say(shown(f"travels: {upload}"))
    if upload.left:
        say(shown(f"has to be on the cluster: {', '.join(upload.left)}"))
    upload.check()
    options = ["--address", "auto", "--dir", results]
    for change in file.change or ():
        options += ["--set", change]
    command = shlex.join(upload.command(file.job, options))
    if upload.working != ".":
        folder = shlex.quote(upload.working)
        command = f"mkdir -p {folder} && cd {folder} && {command}"
    with tempfile.TemporaryDirectory(prefix="zoo-search-") as place, working("submitting"):
        archive = Path(place) / "job.zip"
        upload.write(archive)
        try:
            name = client.submit_job(entrypoint=command, runtime_env={"working_dir": str(archive)})
        except (ConnectionError, RuntimeError, ValueError) as error:
            # Where the server failed, its stack trace is told; the reason stands in its last line.
            lines = str(error).strip().splitlines()
            reason = first_line(lines[-1] if lines else error)
            raise UserError(
                f"The job server at {address} did not take the job ({reason}). What was to travel: "
                f"{upload}. Look at the cluster (zoo-search doctor --address HOST:PORT), then give "
                "the same command again."
            ) from None
    print(shown(f"submitted as {name}"))
    print(shown(f"results  {results}"), flush=True)

    async def follow() -> None:
        async for lines in client.tail_job_logs(name):
            print(_words(lines))

    asyncio.run(follow())
    status = client.get_job_status(name)
    print(shown(f"{name}: {status}"))
    print(shown(f"results  {results}"))
    raise typer.Exit(0 if status == JobStatus.SUCCEEDED else 1)


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _words(lines: str) -> str:
    """Return lines of a job's log as they are printed: plain, whatever its server sends."""
    return shown(_COLOUR.sub("", lines).replace("\r\n", "\n").replace("\r", "\n")).rstrip("\n")


def _is_here(client: JobSubmissionClient) -> bool:
    """Say whether the cluster's head is this machine: then its session's folder lies here."""
    from zoo_search.cluster import temporary

    try:
        answer = client._do_request("GET", "/api/version")
        session = str(answer.json()["session_name"])
    except (AttributeError, KeyError, ValueError, ConnectionError, RuntimeError):
        return False  # another version of Ray
    places = (temporary.configured(), "/tmp")
    return bool(session) and any(Path(place, "ray", session).is_dir() for place in places)


def _results(directory: str | None, name: str, address: str, *, here: bool) -> str:
    """Return the run directory of a job: a place that is still there when the job is over.

    Raises:
        UserError: If there is none.
    """
    from zoo_search.core.files import absolute

    given = directory or f"runs/{name}"
    if given.startswith("memory://"):
        raise UserError(
            f"--dir {given} is the memory of the job's own process, and ends with it. Give a path "
            "that all machines of the cluster have, or a URI of object storage."
        )
    if here:
        return absolute(given)
    if directory is None or not ("://" in given or given.startswith(("/", "~"))):
        what = "--dir is missing" if directory is None else f"--dir {given} is a relative path"
        raise UserError(
            f"{what}, and the cluster at {address} is not this machine: its working directory is "
            "removed with the job, and the results with it. Give an absolute path that all "
            "machines of the cluster have, or a URI such as s3://BUCKET/RUN."
        )
    return given
