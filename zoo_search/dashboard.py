"""The candidates of a run in a browser, through optuna-dashboard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import yaml

from zoo_search.errors import UserError
from zoo_search.store import RunStore

__all__ = ["serve"]

_HOST = "127.0.0.1"


def serve(directory: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the Optuna study of a run on 127.0.0.1 until interrupted.

    Args:
        directory: Run directory; a remote one is read as it is now.
        port: Port to listen on; 0 takes a free one.
        say: Told the address.

    Raises:
        UserError: If the run holds no study, its storage cannot be opened, or optuna-dashboard is
            not installed, or the port is in use.
    """
    store = RunStore(directory)
    url = _storage_url(store)
    if url is None and not store.exists("study.journal"):
        raise UserError(
            f"{store.url} holds no study. Give the directory of a run whose candidates were scored "
            "(zoo-search reassemble JOB.yaml)."
        )
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise UserError(
            "The dashboard is an optional extra. Install it: pip install 'zoo-search[dashboard]'."
        ) from None
    from zoo_search.reassembly.journal import journal_storage, url_storage

    with contextlib.ExitStack() as stack:
        if url is None:
            storage = journal_storage(stack.enter_context(store.local_copy("study.journal")))
        else:
            storage = url_storage(url)
        try:
            server = make_server(_HOST, port, wsgi(storage), _Server, _Handler)
        except OSError as error:
            raise UserError(
                f"Port {port} of {_HOST} cannot be used ({error.strerror or error}). Give another "
                "one with --port, or none: then a free one is taken."
            ) from None
        with server:
            say(f"http://{_HOST}:{server.server_port}/  (stop with Ctrl-C)")
            say(
                "In the study: score against GMACs and the Pareto front; under 'Smart Selection' a "
                "table of all candidates that can be sorted."
            )
            server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """Answers a browser's requests at the same time."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Keeps the terminal quiet."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def _storage_url(store: RunStore) -> str | None:
    """Return the Optuna storage that the run file names; None for a journal in the run."""
    if not store.exists("job.yaml"):
        return None
    job = yaml.safe_load(store.read_text("job.yaml"))
    url: str | None = job.get("search", {}).get("storage")
    return url
