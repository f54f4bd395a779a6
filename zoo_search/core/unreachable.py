"""Errors of storages and servers that do not answer, whichever library found it out."""

from __future__ import annotations

import socket
from collections.abc import Iterator

_LIBRARIES = frozenset({
    "adlfs", "aiobotocore", "aiohttp", "azure", "boto3", "botocore", "gcsfs", "google", "httpx",
    "httpcore", "paramiko", "requests", "s3fs", "urllib3",
})  # fmt: skip
"""Whose errors are about the network and about credentials for it, by the names of modules."""


def unreachable(error: BaseException) -> BaseException | None:
    """Return what tells that a storage does not answer, or not to this user; None: nothing does.

    That is an error itself or one that led to it.
    """
    return next((each for each in _causes(error) if _is_of_network(each)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_of_network(error: BaseException) -> bool:
    known = isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
    return known or type(error).__module__.partition(".")[0] in _LIBRARIES
