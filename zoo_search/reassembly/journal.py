"""Where the study of a search is kept: a journal file, or any Optuna storage."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
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

    Searches of one ``made_from`` are the same. The study of another one stays, under another name,
    and what it scored is known to this one as far as it holds (:mod:`.known`).

    Attributes:
        path: Of the journal file.
        made_from: Hash of everything that decides on the study.
        url: Of an Optuna storage, which comes before a journal file.
        name: Of the study in a storage that others may use, too.
        scored_from: Hash of what decides on the scores of a recipe, whatever else was scored, as
            far as proxies share it; empty: nothing is known of it, and no score is taken over.
        proposed_from: Hash of what decides on which recipes are proposed, but for the budget and
            the proxies; empty: likewise.
    """

    path: Path | None = None
    made_from: str = ""
    url: str | None = None
    name: str = NAME
    scored_from: str = ""
    proposed_from: str = ""


def open_studies(place: StudyPlace) -> tuple[optuna.Study, list[optuna.Study]]:
    """Open or make a two-objective study: the score up, GMACs down; and the others of that place.

    Those others are searches whose scores come from the same (``scored_from``), oldest first.

    Raises:
        UserError: If the storage cannot be opened.
    """
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    storage: optuna.storages.BaseStorage
    if place.url is not None:
        storage = url_storage(place.url)
    elif place.path is not None:
        place.path.parent.mkdir(parents=True, exist_ok=True)
        _mend(place.path)
        storage = journal_storage(place.path)
    else:
        storage = optuna.storages.InMemoryStorage()
    kept = {frozen.study_name: frozen.user_attrs for frozen in storage.get_all_studies()}
    name = f"{place.name} {place.made_from[:12]}".strip()
    # The first study of a journal has the plain name, under which versions before looked for it.
    if (
        place.url is None
        and kept.get(NAME, {}).get("made_from", place.made_from) == place.made_from
    ):
        name = NAME
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )
    if "made_from" not in study.user_attrs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["score", "GMACs"])
        for key in ("scored_from", "proposed_from", "made_from"):
            study.set_user_attr(key, getattr(place, key))
    others = [
        optuna.load_study(study_name=other, storage=storage)
        for other, attrs in kept.items()
        if other != name and place.scored_from and attrs.get("scored_from") == place.scored_from
    ]
    return study, others


def open_study(place: StudyPlace) -> optuna.Study:
    """Open or make a study, as :func:`open_studies` does."""
    return open_studies(place)[0]


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
