"""Where a cluster wants the results of jobs: what its head's environment names, asked by a job.

A job's command runs in the environment that the head was started in, and nothing else shows that
environment from outside. So a job of one line tells it, and is then forgotten.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import time
from typing import TYPE_CHECKING

from zoo_search.cluster.jobs.listing import ENDED
from zoo_search.cluster.jobs.server import ask
from zoo_search.core.errors import UserError
from zoo_search.core.progress import working
from zoo_search.core.redaction import redacted

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

VARIABLE = "ZOO_SEARCH_RUNS"
"""Names, in the environment of a head, the place below which jobs without a directory write."""
_ASK = f"printf 'runs=<%s>\\n' \"${VARIABLE}\""
_ANSWER = re.compile(r"^runs=<(.*)>$", re.MULTILINE)
_WAIT = 60.0  # seconds that the answer may take


def default_directory(client: JobSubmissionClient, name: str) -> str | None:
    """Return where the results of a run go by default: below the cluster's place, by user and name.

    None where the cluster names no such place.

    Raises:
        UserError: If the place cannot be one for all machines, or holds a key.
    """
    with working(f"asking the cluster for {VARIABLE}"):
        place = shared_runs(client)
    if not place:
        return None
    if redacted(place) != place:
        raise UserError(
            f"{VARIABLE} of the cluster is {place}: it holds a key, which everybody who sees the "
            "cluster's jobs would see. Set it without, and give the cluster's machines the key as "
            "the storage's own variables; or give a directory with --dir."
        )
    if place.startswith("memory://") or not ("://" in place or place.startswith("/")):
        raise UserError(
            f"{VARIABLE} of the cluster is {place}, which is no place that all its machines have. "
            "Set it to an absolute path on a shared drive or a URI, where the head is started; or "
            "give a directory with --dir."
        )
    return f"{place.rstrip('/')}/{user()}/{name}"


def user() -> str:
    """Return who is asking, so that two people's runs of one name do not meet."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # nobody in this machine's list
        return f"user-{os.getuid()}"


def shared_runs(client: JobSubmissionClient) -> str | None:
    """Return what the variable holds for the jobs of a cluster; None where it is not told."""
    question = None
    try:
        question = ask(lambda: client.submit_job(entrypoint=_ASK, metadata={"zoo_search": "asks"}))
        end = time.monotonic() + _WAIT
        while time.monotonic() < end:
            if ask(lambda: client.get_job_status(question)) in ENDED:
                found = _ANSWER.search(ask(lambda: client.get_job_logs(question)))
                return found[1] if found else None
            time.sleep(0.3)
    except (AttributeError, KeyError, ValueError, ConnectionError, RuntimeError, OSError):
        return None  # another version of Ray, or a server that takes no job: the next one tells why
    finally:
        with contextlib.suppress(Exception):
            if question is not None:
                ask(lambda: client.delete_job(question))
    return None
