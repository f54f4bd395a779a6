"""The candidates of a run in a browser, through optuna-dashboard."""

from __future__ import annotations

import socket
from collections.abc import Callable

from zoo_search.errors import UserError
from zoo_search.store import RunStore

__all__ = ["serve"]


def serve(directory: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the Optuna study of a run on 127.0.0.1 until interrupted.

    Args:
        directory: Run directory; a remote one is read as it is now.
        port: Port to listen on; 0 takes a free one.
        say: Told the address.

    Raises:
        UserError: If the run holds no study, or optuna-dashboard is not installed.
    """
    store = RunStore(directory)
    if not store.exists("study.journal"):
        raise UserError(
            f"{store.url} holds no study. Give the directory of a run whose candidates were scored "
            "(zoo-search reassemble JOB.yaml)."
        )
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise UserError(
            "The dashboard is an optional extra. Install it: pip install 'zoo-search[dashboard]'."
        ) from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with store.local_copy("study.journal") as path:
        storage = JournalStorage(JournalFileBackend(str(path)))
        port = port or _free_port()
        say(f"http://127.0.0.1:{port}/  (stop with Ctrl-C)")
        run_server(storage, host="127.0.0.1", port=port)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
