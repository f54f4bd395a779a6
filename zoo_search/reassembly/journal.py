"""Where the study of a search is kept: a journal file, or any Optuna storage."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.identity import sha256
from zoo_search.core.json_text import read_json
from zoo_search.core.progress import console

if TYPE_CHECKING:
    import optuna

NAME = "zoo-search"
_CHECK = "check"
_LOCK_SECONDS = 10  # a lock that old was left by a process that was killed


@dataclass(frozen=True)
class StudyPlace:
    """Where a study is kept: in a journal file, at the URL of an Optuna storage, or in memory.

    Searches of one ``made_from`` are the same. A study of another one is replaced in a journal; in
    a storage it has another name, and stays.
    """

    path: Path | None = None
    made_from: str = ""
    url: str | None = None
    name: str = NAME  # of the study in a storage that others may use, too


def open_study(place: StudyPlace) -> optuna.Study:
    """Open or make a two-objective study: the score up, GMACs down."""
    import optuna

    path, made_from = place.path, place.made_from
    optuna.logging.set_verbosity(logging.WARNING)
    opened = partial(optuna.create_study, directions=["maximize", "minimize"], load_if_exists=True)
    if place.url is not None:
        name = f"{place.name} {made_from[:12]}".strip()
        study = opened(storage=url_storage(place.url), study_name=name)
    elif path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend(path)
        study = opened(storage=journal_storage(path), study_name=NAME)
        if study.user_attrs.get("made_from", made_from) != made_from:
            path.unlink()
            study = opened(storage=journal_storage(path), study_name=NAME)
    else:
        study = opened(study_name=NAME)
    if "made_from" not in study.user_attrs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["score", "GMACs"])
        study.set_user_attr("made_from", made_from)
    return study


def journal_storage(path: Path) -> optuna.storages.BaseStorage:
    """Return the storage of a journal file; a lock that was left is taken over after 10 seconds.

    Each line that is written holds the hash of the rest of it (:func:`damaged_line`).
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    class Checked(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            super().append_logs([{**log, _CHECK: _hash(log)} for log in logs])

    path = path.absolute()  # Optuna's lock is a link to the path as given
    lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
    return JournalStorage(Checked(str(path), lock_obj=lock))


def damaged_line(path: Path) -> int | None:
    """Return the number of the first line that is not what was written; None: there is none.

    Versions that wrote no hash are believed, but for what is no JSON at all.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                log = read_json(line)
                said = log.pop(_CHECK, None)
                whole = "op_code" in log and said in (None, _hash(log))
            except (ValueError, AttributeError, TypeError):
                whole = False
            if not whole:
                return number
    return None


def _hash(log: dict[str, Any]) -> str:
    # As it comes back from the file, where numbers as keys are texts; a NaN is allowed there.
    return sha256(json.dumps(json.loads(json.dumps(log)), sort_keys=True))[:16]


def _mend(path: Path) -> None:
    """Cut off a last line without its end, which a process was killed in the middle of.

    Optuna would append to it, and could then read no line after it. A journal with a line that is
    damaged is removed: what comes after a line depends on it.
    """
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
        number = damaged_line(path)
        if number is not None:
            console.print(f"  line {number} of {path} is damaged: the search begins anew")
            path.unlink()


def url_storage(url: str, place: str = "search.storage") -> optuna.storages.BaseStorage:
    """Return the Optuna storage at a URL; ``place`` says where the URL was given.

    Raises:
        UserError: If it cannot be opened.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return optuna.storages.get_storage(url)
    except (SQLAlchemyError, ImportError, ValueError, OSError, RuntimeError) as error:
        raise UserError(
            f"The Optuna storage in '{place}' cannot be opened ({first_line(error)}). Give "
            "a URL such as sqlite:///study.db or mysql://USER@HOST/NAME whose driver is "
            "installed, or leave the key away: then a journal file in the run directory is used."
        ) from None
