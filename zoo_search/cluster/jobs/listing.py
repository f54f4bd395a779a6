"""The jobs of a cluster, by their names."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoo_search.cluster.jobs.server import ask, told
from zoo_search.core.errors import UserError, clipped, first_line, nearest, some
from zoo_search.core.redaction import redacted
from zoo_search.core.tables import Table, duration, text

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DIRECTORY = "zoo_search_directory"
"""What a job's metadata call its run directory."""
NAME = "zoo_search_name"
"""Likewise, the name that it was given."""
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""States of a job that is over."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Job:
    """A job of a cluster."""

    name: str
    """By which it is called; of two of one name the later one has a number behind it."""
    given: str | None
    """The name that it was given, without that number."""
    state: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED, as Ray says it."""
    since: float | None
    """When it was submitted, in seconds since 1970."""
    until: float | None
    """When it ended, likewise."""
    directory: str | None
    """Its run directory, where it was submitted by zoo-search."""
    command: str
    """Without keys."""
    exit_code: int | None
    message: str
    """What Ray says of its state."""

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED

    def row(self) -> dict[str, object]:
        """Return its row of a table."""
        now = time.time()
        since = "–" if self.since is None else f"{duration(now - self.since)} ago"
        took = "–" if self.since is None else duration((self.until or now) - self.since)
        return {
            **asdict(self),
            "began": since,
            "took": took,
            "shortened": clipped(self.command, 60),
        }


def job_of(said: Any) -> Job:
    """Return a job as Ray's own description of it says."""
    meta = said.metadata or {}
    times = (None if t is None else t / 1000 for t in (said.start_time, said.end_time))
    since, until = times
    given = meta.get(NAME)
    directory = meta.get(DIRECTORY)
    return Job(
        str(said.submission_id),
        given,
        str(getattr(said.status, "value", said.status)),
        since,
        until,
        None if directory is None else redacted(directory),
        redacted(said.entrypoint),
        getattr(said, "driver_exit_code", None),  # earlier versions of Ray do not say it
        redacted(said.message or ""),
    )


def jobs_of(client: JobSubmissionClient, address: str) -> list[Job]:
    """Return the jobs that were sent to a cluster, the latest first.

    Programs that joined it by themselves are none.

    Raises:
        UserError: If the server does not answer, or asks for a token.
    """
    try:
        with told(address):
            found = ask(client.list_jobs)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"The job server at {address} does not tell its jobs ({first_line(error)}). Look at "
            "the cluster, then give the same command again."
        ) from None
    known = [job_of(each) for each in found if each.submission_id]
    return sorted(known, key=lambda job: -(job.since or 0.0))


def find(jobs: Sequence[Job], name: str, address: str) -> Job:
    """Return the job of a name.

    Raises:
        UserError: If there is none.
    """
    for job in jobs:
        if job.name == name:
            return job
    names = [job.name for job in jobs]
    has = f"It has {some(names, ', ', ' and')}." if names else "It has none."
    raise UserError(
        f"The cluster at {address} has no job '{name}'.{nearest(name, names)} {has} Jobs are "
        f"forgotten with their cluster; all: zoo-search jobs --address {address}."
    )


def later(jobs: Sequence[Job], job: Job) -> Job | None:
    """Return the latest job that was given the same name, if it is another one."""
    same = [each for each in jobs if each.given is not None and each.given == job.given]
    return same[0] if same and same[0].name != job.name else None


def free_name(jobs: Sequence[Job], name: str, address: str) -> str:
    """Return what a new job is called: the name, with a number behind it if that was taken.

    Raises:
        UserError: If a job of that name is at work, or the name cannot be one.
    """
    if not _WORD.fullmatch(name):
        raise UserError(
            f"--name {clipped(name)}: a job's name has letters, digits, dots, dashes and "
            "underscores, begins with a letter or a digit, and has at most 100 of them."
        )
    same = [job for job in jobs if name in (job.name, job.given)]
    for job in same:
        if not job.ended:
            raise UserError(
                f"--name {name}: the cluster at {address} has a job of that name, and it is "
                f"{job.state.lower()}. Look at it with 'zoo-search logs {job.name} --follow "
                f"--address {address}', stop it with 'zoo-search stop {job.name} --address "
                f"{address}', or give another name."
            )
    taken = {job.name for job in jobs}
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name}-{number}"
    return free


def table(jobs: Sequence[Job], address: str) -> Table:
    """Return one row a job."""
    columns = (
        text("name", "job"), text("state"), text("began", "since"), text("took"),
        text("directory", "run directory"), text("shortened", "command"),
    )  # fmt: skip
    return Table(f"jobs at {address}", columns, [job.row() for job in jobs])
