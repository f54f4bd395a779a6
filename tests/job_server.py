"""A job server that speaks as Ray's does, at a real port, and can be taken away and come back.

It is there for what a real one does not do when it is asked to: break off a line in the middle, be
gone for a while, want a token, say nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web


class JobServer:
    """Serves one job whose log grows as told; the methods may be called from any thread."""

    def __init__(self) -> None:
        self.log, self.state, self.code = "", "RUNNING", None
        self.name, self.token, self.hangs = "digits", "", False
        self.ends_cleanly = False
        self.tails = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._wait(self._start())

    def stop(self) -> None:
        """Be gone, with all connections."""
        self._wait(self._stop())

    def grow(self, text: str, state: str = "RUNNING", code: int | None = None) -> None:
        """Let the job say something, and perhaps end."""
        self.log += text
        self.state, self.code = state, code

    def _wait(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(20)

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.add_routes([
            web.get("/api/version", self._version),
            web.get("/api/jobs/", self._jobs),
            web.get("/api/jobs/{name}", self._job),
            web.get("/api/jobs/{name}/logs", self._logs),
            web.get("/api/jobs/{name}/logs/tail", self._tail),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        assert self._runner is not None
        for server in self._runner.server.connections:  # type: ignore[union-attr]
            if server.transport is not None:
                server.transport.abort()
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[..., Any]) -> Any:
        if self.hangs:
            await asyncio.sleep(600)
        said = request.headers.get("Authorization", "")
        if self.token and said != f"Bearer {self.token}":
            missing = "Unauthorized: Missing" if not said else "Forbidden: Invalid"
            return web.Response(status=403 if said else 401, text=f"{missing} authentication token")
        return await handler(request)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "x"})

    def _said(self) -> dict[str, Any]:
        return {
            "type": "SUBMISSION", "submission_id": self.name, "status": self.state,
            "entrypoint": "zoo-search run x.yaml --dir s3://KEY:SECRET@bucket/x",
            "start_time": 1_700_000_000_000, "driver_exit_code": self.code,
            "metadata": {"zoo_search_directory": "/shared/x", "zoo_search_name": "digits"},
        }  # fmt: skip

    async def _jobs(self, request: web.Request) -> web.Response:
        return web.json_response([self._said()])

    async def _job(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != self.name:
            return web.Response(status=404, text="Job x does not exist")
        return web.json_response(self._said())

    async def _logs(self, request: web.Request) -> web.Response:
        return web.json_response({"logs": self.log})

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["name"] != self.name:
            return web.Response(status=404, text="Job x does not exist")
        self.tails += 1
        tail = web.WebSocketResponse()
        await tail.prepare(request)
        sent = 0
        while True:
            over = self.state in ("SUCCEEDED", "FAILED", "STOPPED")
            if sent < len(self.log):
                chunk = self.log[sent : sent + 7]  # in pieces, as a line may come
                await tail.send_str(chunk)
                sent += len(chunk)
            elif over or self.ends_cleanly:
                return tail
            else:
                await asyncio.sleep(0.01)


class Tunnel:
    """A way to a port that can be cut."""

    def __init__(self, port: int) -> None:
        self._to, self._open = port, threading.Event()
        self._open.set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._links: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()
        for link in self._links:
            with contextlib.suppress(OSError):  # it is over already
                link.shutdown(socket.SHUT_RDWR)
        self._links.clear()

    def mend(self) -> None:
        self._open.set()

    def _serve(self) -> None:
        while True:
            here, _ = self._socket.accept()
            if not self._open.is_set():
                here.close()
                continue
            there = socket.create_connection(("127.0.0.1", self._to))
            self._links += [here, there]
            for pair in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def lines(texts: Sequence[str]) -> list[str]:
    """Return the lines of what was written."""
    return [line for text in texts for line in text.split("\n")]
