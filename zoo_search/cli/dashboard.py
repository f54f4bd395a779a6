"""The candidates of a run in a browser, through optuna-dashboard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from zoo_search.config import read_job
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.core.version import check_format

_HOST = "127.0.0.1"
_READING = ("GET", "HEAD")
_App = Callable[..., Iterable[bytes]]  # of WSGI


def serve(
    directory: str, port: int, storage_url: str | None = None, *, writable: bool = False
) -> None:
    """Serve the Optuna study of a run on a port of 127.0.0.1 (0: a free one) until interrupted.

    The address is printed; a remote directory is read as it is now. Only requests to that very
    address are answered, and only those that read, unless the study is to be ``writable``.

    Args:
        directory: A run directory. It never decides what else is opened: whoever made it may have
            named the storage of somebody else's study.
        port: Of 127.0.0.1; 0: a free one.
        storage_url: Of the Optuna storage that holds the study, where ``search.storage`` named one.
        writable: Whether notes, studies and trials can be changed and deleted on the page.

    Raises:
        UserError: If the run is of a later format, or holds no study, its storage is not given or
            cannot be opened, or optuna-dashboard is not installed, or the port is in use.
    """
    store = RunStore(directory)
    check_format(store)
    if storage_url is None and not store.exists("study.journal"):
        raise UserError(_no_study(store))
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise UserError(
            "The dashboard is an optional extra. Install it: pip install 'zoo-search[dashboard]'."
        ) from None
    from zoo_search.reassembly.journal import journal_storage, url_storage

    with contextlib.ExitStack() as stack:
        if storage_url is None:
            journal = stack.enter_context(store.local_copy("study.journal"))
            _check(journal)
            storage = journal_storage(journal)
        else:
            storage = url_storage(storage_url, "--storage")
        try:
            app: _App = wsgi(storage)
            server = make_server(_HOST, port, app, _Server, _Handler)
        except OSError as error:
            raise UserError(
                f"Port {port} of {_HOST} cannot be used ({error.strerror or error}). Give another "
                "one with --port, or none: then a free one is taken."
            ) from None
        address = f"{_HOST}:{server.server_port}"
        server.set_app(guarded(app, address, writable=writable))
        with server:
            print(f"http://{address}/  (stop with Ctrl-C)")
            print(
                "In the study: score against GMACs and the Pareto front; under 'Smart Selection' a "
                "table of all candidates that can be sorted.",
                flush=True,
            )
            server.serve_forever()


def guarded(app: _App, address: str, *, writable: bool) -> _App:
    """Return an application of WSGI that lets only requests through that were meant for it.

    A page from elsewhere can send requests to a port of this machine: under a name of its own that
    it lets point here, which the header Host then holds (DNS rebinding), or from its own origin,
    which the header Origin holds.
    """

    def answer(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
        method, origin = environ["REQUEST_METHOD"], environ.get("HTTP_ORIGIN")
        problem = None
        if environ.get("HTTP_HOST") != address or origin not in (None, f"http://{address}"):
            problem = HTTPStatus.FORBIDDEN, f"Only http://{address}/ is served here."
        elif method not in _READING and not writable:
            words = "The study is shown for reading; start the dashboard with --writable."
            problem = HTTPStatus.METHOD_NOT_ALLOWED, words
        if problem is None:
            return app(environ, start_response)
        status, words = problem
        text = words.encode()
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [text]

    return answer


def _check(journal: Path) -> None:
    from zoo_search.reassembly.journal import damaged_line

    number = damaged_line(journal)
    # The last line of a search that is under way may not have its end yet.
    if number is not None and number <= journal.read_bytes().count(b"\n"):
        raise UserError(
            f"Line {number} of {journal} is damaged, so the study cannot be shown. Run "
            "'zoo-search reassemble JOB.yaml' again: it makes the journal anew."
        )


def _no_study(store: RunStore) -> str:
    named = read_job(store).search.storage if store.exists("job.yaml") else None
    if named is None:
        return (
            f"{store.url} holds no study. Give the directory of a run whose candidates were scored "
            "(zoo-search reassemble JOB.yaml)."
        )
    return (
        f"{store.url} holds no study: its run file named the Optuna storage {named}. A run "
        "directory does not decide what is opened, so give the address of the storage with "
        "--storage."
    )


class _Server(ThreadingMixIn, WSGIServer):
    """Answers a browser's requests at the same time."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Keeps the terminal quiet."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""
