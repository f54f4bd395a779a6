"""The end of a job that somebody asks for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zoo_search.cluster.jobs.listing import ENDED
from zoo_search.cluster.jobs.server import ask, told
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.progress import working

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_WAIT = 60.0  # seconds that a job may take to its end; Ray kills it after a few


def stop_job(client: JobSubmissionClient, address: str, name: str) -> str:
    """Ask for the end of a job, wait for it, and return its state.

    Raises:
        UserError: If the server does not do it, or the job does not end in time.
    """
    try:
        with told(address), working(f"stopping {name}"):
            ask(lambda: client.stop_job(name))
            end = time.monotonic() + _WAIT
            while time.monotonic() < end:
                status = ask(lambda: client.get_job_status(name))
                state = str(getattr(status, "value", status))
                if state in ENDED:
                    return state
                time.sleep(0.5)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"The job server at {address} did not stop {name} ({first_line(error)}). Look at the "
            "cluster, then give the same command again."
        ) from None
    raise UserError(
        f"{name} was asked to end and is still {state.lower()} after {_WAIT:g} s. Look again with "
        f"'zoo-search jobs --address {address}'; a process that hangs ends with its node."
    )
