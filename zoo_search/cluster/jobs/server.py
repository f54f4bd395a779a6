"""A cluster's job server, and what goes wrong on the way to it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from zoo_search.core.errors import UserError, first_line

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds that a request to a server may take."""
_VARIABLE = "RAY_ADDRESS"
_CURE = "Give the address of the cluster's dashboard, such as http://HEAD:8265, with --address"


def address_of(given: str | None) -> str:
    """Return the address of a job server: the one given, else that of ``RAY_ADDRESS``.

    Raises:
        UserError: If there is none, or it is one that joins a cluster, which has another port.
    """
    address = given or os.environ.get(_VARIABLE, "")
    if not address:
        raise UserError(f"No job server is named. {_CURE} or {_VARIABLE}.")
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"{address} is no address of a job server (it joins a cluster, and jobs are sent to "
            f"the dashboard, which has another port). {_CURE}; through SSH: ssh -L 8265:localhost:"
            "8265 HEAD, then http://localhost:8265."
        )
    return address.rstrip("/")


def reach(address: str) -> JobSubmissionClient:
    """Return a client of a job server that answers.

    Raises:
        UserError: If none answers there, or it asks for a token.
    """
    from ray.job_submission import JobSubmissionClient

    # Of connections and packages: what a user has to know of them we say ourselves.
    logging.getLogger("ray.dashboard.modules").setLevel(logging.WARNING)
    try:
        with told(address), as_given():
            return ask(lambda: JobSubmissionClient(address))
    except (ConnectionError, RuntimeError, OSError, ValueError, KeyError) as error:
        raise no_answer(address, error) from None


def no_answer(address: str, error: object) -> UserError:
    """Return what is said of a server that does not answer."""
    return UserError(f"No Ray job server answers at {address} ({first_line(error)}). {_CURE}.")


def ask(call: Callable[[], T]) -> T:
    """Return what a request to a server gives; Ray itself would wait for ever.

    Raises:
        ConnectionError: If there is no answer in time; the request is left to itself.
    """
    answer: Future[T] = Future()

    def give() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=give, daemon=True).start()
    try:
        return answer.result(PATIENCE)
    except TimeoutError:
        if answer.done():
            raise
        raise ConnectionError(f"no answer within {PATIENCE:g} s") from None


@contextlib.contextmanager
def told(address: str) -> Iterator[None]:
    """Say in one paragraph what a job server refuses for want of a token inside the block.

    Raises:
        UserError: If it does.
    """
    from ray.exceptions import AuthenticationError

    try:
        yield
    except Exception as error:  # a websocket's error is one of aiohttp
        status = getattr(error, "status", None)
        if not isinstance(error, AuthenticationError) and status not in (401, 403):
            raise
        missing = status == 401 or "Authentication required" in str(error)
        what = "is missing" if missing else "is another one"
        raise UserError(
            f"The cluster at {address} answers only those who have its token, and the one of this "
            f"machine {what}. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH "
            "for a file that holds it, to the token that the cluster was started with (on its "
            "head: ~/.ray/auth_token), then give the same command again."
        ) from None


@contextlib.contextmanager
def as_given() -> Iterator[None]:
    """Keep Ray from taking the address of its variables in place of the one that is given."""
    before = {name: os.environ.pop(name, None) for name in (_VARIABLE, "RAY_API_SERVER_ADDRESS")}
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})
