"""``zoo-search jobs``, ``logs`` and ``stop``: what was sent to a cluster."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from zoo_search.cli.jobs.words import RESUME, exit_code, hints, plain
from zoo_search.cli.options import AsJson, say
from zoo_search.cli.tables import show
from zoo_search.core.redaction import shown

Server = Annotated[
    str | None,
    typer.Option("--address", help="Ray dashboard of the cluster: http://HEAD:8265 [RAY_ADDRESS]."),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="Its name: zoo-search jobs tells it.")]


def jobs(address: Server = None, as_json: AsJson = False) -> None:
    """The jobs of a cluster, the latest first."""
    from zoo_search.cluster.jobs import listing, server

    place = server.address_of(address)
    found = listing.jobs_of(server.reach(place), place)
    show(listing.table(found, place), as_json)


def logs(
    name: JobName,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job is over.")] = False,
    address: Server = None,
) -> None:
    """The log of a job; with --follow, its exit code is that of the job."""
    from zoo_search.cluster.jobs import listing, server
    from zoo_search.cluster.jobs.following import Follower, log_of

    place = server.address_of(address)
    client = server.reach(place)
    found = listing.jobs_of(client, place)
    job = listing.find(found, name, place)
    if newer := listing.later(found, job):
        say(f"note: {newer.name} ({newer.state}) was submitted under the same name after {name}")
    if not follow:
        print(plain(log_of(client, place, name)))
        return
    try:
        state = Follower(client, place, name, tell, say).follow()
    except KeyboardInterrupt:
        left(name, place)
    print(shown(f"{name}: {state}"))
    raise typer.Exit(exit_code(client, name, state))


def stop(name: JobName, address: Server = None) -> None:
    """End a job; what it has finished is kept."""
    from zoo_search.cluster.jobs import listing, server
    from zoo_search.cluster.jobs.stopping import stop_job

    place = server.address_of(address)
    client = server.reach(place)
    found = listing.jobs_of(client, place)
    job = listing.find(found, name, place)
    if job.ended:
        newer = listing.later(found, job)
        more = f"; {newer.name} of the same name is {newer.state}" if newer else ""
        print(shown(f"{name} is over already: {job.state}{more}"))
    else:
        print(shown(f"{name}: {stop_job(client, place, name)}"))
    if job.directory:
        print(shown(f"results  {job.directory}"))
        print(f"resume:  {RESUME}")


def tell(lines: str) -> None:
    """Print lines of a job's log."""
    print(plain(lines), flush=True)


def left(name: str, address: str) -> NoReturn:
    """Say that a job runs on although its log is not followed any more, and end so."""
    say(f"\n{name} runs on; its log is not followed any more")
    for line in hints(name, address):
        say(line)
    sys.exit(130)  # as after Ctrl-C; typer.Exit would be taken for the end of a run
