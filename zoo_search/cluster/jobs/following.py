"""The log of a job, line by line, whatever becomes of the connection to its server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from zoo_search.cluster.jobs.listing import ENDED
from zoo_search.cluster.jobs.server import ask, told
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.tables import duration

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

GIVE_UP = 600.0
"""Seconds without any answer after which a job is not followed any more."""
_QUIET = 30.0  # seconds without a line after which the server is asked whether it is there
_FIRST, _LONGEST = 1.0, 30.0  # seconds between two tries: each time twice as long
_SETTLE = 2  # quiet spells of a job that is over, after which its log is over, too


class _WriteError(Exception):
    """What went wrong where the lines go to."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class Follower:
    """Follows one job's log, and never tells a line twice.

    A server tells a log from its beginning to whoever asks again, so what was told is counted.
    """

    def __init__(
        self,
        client: JobSubmissionClient,
        address: str,
        name: str,
        write: Callable[[str], None],
        say: Callable[[str], None],
        *,
        give_up: float = GIVE_UP,
        quiet: float = _QUIET,
    ) -> None:
        self._client, self._address, self._name = client, address, name
        self._write, self._say = write, say
        self._give_up, self._quiet = give_up, quiet
        self._told = 0  # characters that were taken over
        self._rest = ""  # of them, the line that has no end yet
        self._heard = time.monotonic()
        self._broken = False

    def follow(self) -> str:
        """Write the lines of the log until the job is over; return the job's state.

        Raises:
            UserError: If its server did not answer for too long, asks for a token, or has no such
                job any more.
        """
        return asyncio.run(self._follow())

    async def _follow(self) -> str:
        wait, over = _FIRST, False
        self._heard = time.monotonic()
        while True:
            before = self._told
            try:
                with told(self._address):
                    await self._tell()
                    state = self._state()
                if state in ENDED and over:
                    self._end()
                    return state
                if state in ENDED:
                    # The connection may have ended before the job, which ended meanwhile: what is
                    # told of a job that is over is all of its log.
                    over = True
                    continue
            except UserError:
                raise
            except _WriteError as error:  # none of the connection
                raise error.cause from None
            except Exception as error:  # of Ray, of its connections, of the system
                if getattr(error, "status", None) == 404 or "does not exist" in str(error):
                    raise self._lost(f"has no job {self._name} any more") from None
                self._break(first_line(error))
            wait = _FIRST if self._told > before else min(2 * wait, _LONGEST)
            await asyncio.sleep(wait)

    def _break(self, problem: str) -> None:
        """Say that a connection broke, once, or raise when that was too long ago."""
        gone = duration(self._give_up)
        if time.monotonic() - self._heard >= self._give_up:
            raise self._lost(f"did not answer for {gone} ({problem})") from None
        if not self._broken:
            self._broken = True
            self._say(
                f"the connection to {self._address} broke ({problem}): the job runs on, and it is "
                f"tried again for {gone}"
            )

    def _hear(self) -> None:
        self._heard = time.monotonic()
        if self._broken:
            self._broken = False
            self._say("connected again")

    def _lost(self, what: str) -> UserError:
        return UserError(
            f"The job server at {self._address} {what}, and the log of {self._name} is not "
            "followed any more. A job does not end with its connection: if the cluster is up, it "
            f"runs on. Look with 'zoo-search jobs --address {self._address}', follow it with "
            f"'zoo-search logs {self._name} --follow --address {self._address}'; if the cluster "
            "is gone, start it and give the same submit again: it goes on from the last finished "
            "step."
        )

    def _state(self) -> str:
        status = ask(lambda: self._client.get_job_status(self._name))
        self._hear()
        return str(getattr(status, "value", status))

    async def _tell(self) -> None:
        """Take over what a connection tells until it ends."""
        passed = 0
        async with contextlib.aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                new = chunk[max(0, self._told - passed) :]
                passed += len(chunk)
                self._told = max(self._told, passed)
                self._take(new)

    async def _chunks(self) -> AsyncGenerator[str]:
        """Yield what a connection tells; where it is silent, ask whether anybody is there."""
        source = aiter(self._client.tail_job_logs(self._name))
        spells = 0
        task = asyncio.ensure_future(anext(source))
        try:
            while True:
                if not (await asyncio.wait({task}, timeout=self._quiet))[0]:
                    over = self._state() in ENDED
                    spells = spells + 1 if over else 0
                    if spells == _SETTLE:
                        return
                    continue
                try:
                    chunk = task.result()
                except StopAsyncIteration:
                    return
                self._hear()
                spells = 0
                yield chunk
                task = asyncio.ensure_future(anext(source))
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def _take(self, new: str) -> None:
        *lines, self._rest = (self._rest + new).split("\n")
        if lines:
            try:
                self._write("\n".join(lines))
            except Exception as error:
                raise _WriteError(error) from None

    def _end(self) -> None:
        """Write the last line, if it came without its end."""
        if self._rest:
            self._write(self._rest)
            self._rest = ""


def log_of(client: JobSubmissionClient, address: str, name: str) -> str:
    """Return the log of a job as it is now.

    Raises:
        UserError: If its server does not give it.
    """
    try:
        with told(address):
            return ask(lambda: client.get_job_logs(name))
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"The job server at {address} does not give the log of {name} ({first_line(error)}). A "
            "log lies on the node where the job ran, and is gone with it."
        ) from None
