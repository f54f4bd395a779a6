"""``zoo-search submit``: a job on a Ray cluster, through its job server."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from zoo_search.cli.jobs.commands import Server, left, tell
from zoo_search.cli.jobs.words import exit_code, explained, hints
from zoo_search.cli.options import Directory, RunFile, Seed, grouped, say
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.progress import console, working
from zoo_search.core.redaction import redacted, shown

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from zoo_search.run.upload import Upload


@grouped
def submit(
    file: RunFile,
    address: Server = None,
    directory: Directory = None,
    seed: Seed = None,
    name: Annotated[
        str | None, typer.Option(help="What the job is called [a name that Ray makes].")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not follow the log: end when it is submitted.")
    ] = False,
    install: Annotated[
        bool,
        typer.Option("--install", help="Let pip install this zoo-search on nodes that lack it."),
    ] = False,
) -> None:
    """Run a job on a Ray cluster and follow its log.

    The run file travels with what it names by relative paths. What it names by absolute paths, and
    --dir, are places on the cluster; on this machine's own cluster, paths are as for 'run'. Without
    --dir results lie below ZOO_SEARCH_RUNS, where the cluster sets it.
    """
    from zoo_search.cluster.jobs import listing, server

    config = file.load()
    for option, value in [("--dir", directory), *(("--set", each) for each in file.change or ())]:
        if value is not None and redacted(value) != value:
            raise UserError(
                f"{option}: {value} holds a key, and everybody who sees the cluster's jobs would "
                "see it in the command of this one. Give the address without it, and the key to "
                "the cluster's machines, as the storage's variables of the environment or its own "
                "file."
            )
    from zoo_search.cluster.jobs.shared import default_directory
    from zoo_search.run.installing import Installation
    from zoo_search.run.upload import upload_of
    from zoo_search.run.upload_images import check_images_small

    address = server.address_of(address)
    client = server.reach(address)
    job = None if name is None else _free_name(client, address, name)
    here = _is_here(client)
    if directory is None and not here:
        directory = default_directory(client, config.name)
    results = _results(directory, config.name, address, here=here)
    upload = upload_of(file.job, config)
    check_images_small(upload, config)
    say(shown(f"travels: {upload}"))
    if upload.left:
        say(shown(f"has to be on the cluster: {', '.join(upload.left)}"))
    upload.check()
    installs = Installation.of_this() if install else Installation()
    if install:
        say(str(installs))
    options = ["--address", "auto", "--dir", results]
    for change in file.change or ():
        options += ["--set", change]
    if seed is not None:
        options += ["--seed", str(seed)]
    command = shlex.join(installs.command(upload.command(file.job, options)))
    if upload.working != ".":
        folder = shlex.quote(upload.working)
        command = f"mkdir -p {folder} && cd {folder} && {command}"
    metadata = {listing.DIRECTORY: results, **({listing.NAME: name} if name else {})}
    name = _send(
        client, address, upload, installs.runtime_env,
        entrypoint=command, submission_id=job, metadata=metadata,
    )  # fmt: skip
    print(shown(f"submitted as {name}"))
    print(shown(f"results  {results}"), flush=True)
    if console.is_terminal or no_wait:
        for line in hints(name, address):
            say(line)
    if not no_wait:
        _follow(client, address, name, results)


def _send(
    client: JobSubmissionClient,
    address: str,
    upload: Upload,
    runtime_env: Mapping[str, object],
    **job: Any,
) -> str:
    """Send the archive and a job, and return the job's name.

    Raises:
        UserError: If the server does not take them.
    """
    from zoo_search.cluster.jobs import server

    with tempfile.TemporaryDirectory(prefix="zoo-search-") as place, working("submitting"):
        archive = Path(place) / "job.zip"
        upload.write(archive)
        try:
            with server.told(address):
                env = {"working_dir": str(archive), **runtime_env}
                return client.submit_job(runtime_env=env, **job)
        except (ConnectionError, RuntimeError, ValueError) as error:
            # Where the server failed, its stack trace is told; the reason stands in its last line.
            lines = str(error).strip().splitlines()
            reason = first_line(lines[-1] if lines else error)
            raise UserError(
                f"The job server at {address} did not take the job ({reason}). What was to travel: "
                f"{upload}. Look at the cluster (zoo-search doctor --address HOST:PORT), then give "
                "the same command again."
            ) from None


def _follow(client: JobSubmissionClient, address: str, name: str, results: str) -> NoReturn:
    """Print the log of a job until it is over, then end with its exit code."""
    from zoo_search.cluster.jobs.following import Follower

    try:
        state = Follower(client, address, name, tell, say).follow()
    except KeyboardInterrupt:
        left(name, address)
    code = exit_code(client, name, state)
    print(shown(f"{name}: {state}"))
    print(shown(f"results  {results}"))
    if explained(code):
        say(explained(code))
    raise typer.Exit(code)


def _free_name(client: JobSubmissionClient, address: str, name: str) -> str:
    """Return what the job is called at its server."""
    from zoo_search.cluster.jobs import listing

    return listing.free_name(listing.jobs_of(client, address), name, address)


def _is_here(client: JobSubmissionClient) -> bool:
    """Say whether the cluster's head is this machine: then its session's folder lies here."""
    from zoo_search.cluster import temporary
    from zoo_search.cluster.jobs.server import ask

    try:
        answer = ask(lambda: client._do_request("GET", "/api/version"))
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
            "machines of the cluster have, or a URI such as s3://BUCKET/RUN; or let the cluster "
            "name one for all jobs, as ZOO_SEARCH_RUNS in the environment of its head."
        )
    return given
