"""Where the study of a search is kept: a journal file, or any Optuna storage.

Imports Optuna at the top, so only what opens a study imports this module.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from zoo_search.errors import UserError, first_line

__all__ = ["journal_storage", "open_study", "url_storage"]

NAME = "zoo-search"
DIRECTIONS: tuple[Literal["maximize"], Literal["minimize"]] = ("maximize", "minimize")
METRICS = ("score", "GMACs")
_LOCK_SECONDS = 10  # a lock that old was left by a process that was killed


def open_study(path: Path | None, url: str | None, name: str, made_from: str) -> optuna.Study:
    """Open or make a two-objective study: the score up, GMACs down.

    Args:
        path: Journal file. One of another ``made_from`` is replaced.
        url: Optuna storage to use instead; a study of another ``made_from`` has another name
            there, and stays.
        name: Name of the study in a storage that others may use, too.
        made_from: What says that two searches are the same.

    Raises:
        UserError: If the storage cannot be opened.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    if url is not None:
        study = _open(url_storage(url), f"{name} {made_from[:12]}".strip())
    elif path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend(path)
        study = _open(journal_storage(path), NAME)
        if study.user_attrs.get("made_from", made_from) != made_from:
            path.unlink()
            study = _open(journal_storage(path), NAME)
    else:
        study = _open(None, NAME)
    if "made_from" not in study.user_attrs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(METRICS))
        study.set_user_attr("made_from", made_from)
    return study


def _open(storage: optuna.storages.BaseStorage | None, name: str) -> optuna.Study:
    return optuna.create_study(
        storage=storage, study_name=name, directions=list(DIRECTIONS), load_if_exists=True
    )


def journal_storage(path: Path) -> optuna.storages.BaseStorage:
    """Return the storage of a journal file; a lock that was left is taken over after 10 seconds."""
    path = path.absolute()  # Optuna's lock is a link to the path as given
    lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _mend(path: Path) -> None:
    """Cut off a last line without its end, which a process was killed in the middle of.

    Optuna would append to it, and could then read no line after it.
    """
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)


def url_storage(url: str) -> optuna.storages.BaseStorage:
    """Return the Optuna storage at a URL.

    Raises:
        UserError: If it cannot be opened.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return optuna.storages.get_storage(url)
    except (SQLAlchemyError, ImportError, ValueError, OSError, RuntimeError) as error:
        raise UserError(
            f"The Optuna storage in 'search.storage' cannot be opened ({first_line(error)}). Give "
            "a URL such as sqlite:///study.db or mysql://USER@HOST/NAME whose driver is "
            "installed, or leave the key away: then a journal file in the run directory is used."
        ) from None
