"""What is said of a job beside its log: how to look, to stop it, and to go on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo_search.core.redaction import shown

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NOT_FOUND = 127  # of a shell that does not know a command
RESUME = "the same submit, with the same --dir, goes on from the last finished step"


def plain(lines: str) -> str:
    """Return lines of a job's log as they are printed: plain, whatever its server sends."""
    return shown(_COLOUR.sub("", lines).replace("\r\n", "\n").replace("\r", "\n")).rstrip("\n")


def hints(name: str, address: str) -> Iterator[str]:
    """Yield a line each on how to look at a job that is at work, how to stop it, and to go on."""
    where = f"--address {shlex.quote(address)}"
    yield f"look:    zoo-search logs {name} --follow {where}"
    yield f"stop:    zoo-search stop {name} {where}"
    yield f"resume:  {RESUME}"


def exit_code(client: JobSubmissionClient, name: str, state: str) -> int:
    """Return the exit code of a job that is over; 1 where it failed without one, or was stopped."""
    if state == "SUCCEEDED":
        return 0
    try:
        code = client.get_job_info(name).driver_exit_code
    except (AttributeError, RuntimeError, OSError):
        code = None  # earlier versions of Ray do not say it
    return code if code is not None and 0 < code < 256 else 1


def explained(code: int) -> str:
    """Return what an exit code says of the machine where a job ran; empty: nothing."""
    if code != _NOT_FOUND:
        return ""
    return (
        "zoo-search is not installed where the job ran: start the cluster from an image that has "
        "it, or submit with --install"
    )
