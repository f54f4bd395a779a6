"""The candidates of a run in a browser, through optuna-dashboard."""

from __future__ import annotations

import contextlib
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from zoo_search.config import read_job
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore

_HOST = "127.0.0.1"


def serve(directory: str, port: int) -> None:
    """Serve the Optuna study of a run on a port of 127.0.0.1 (0: a free one) until interrupted.

    The address is printed; a remote directory is read as it is now.

    Raises:
        UserError: If the run holds no study, its storage cannot be opened, or optuna-dashboard is
            not installed, or the port is in use.
    """
    store = RunStore(directory)
    url = read_job(store).search.storage if store.exists("job.yaml") else None
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
            print(f"http://{_HOST}:{server.server_port}/  (stop with Ctrl-C)")
            print(
                "In the study: score against GMACs and the Pareto front; under 'Smart Selection' a "
                "table of all candidates that can be sorted.",
                flush=True,
            )
            server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """Answers a browser's requests at the same time."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Keeps the terminal quiet."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""
