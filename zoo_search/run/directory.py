"""Whose a run directory is: a run's, one process's at a time, and of a format that is known here.

Nothing is written to a directory that holds somebody's files, and nothing but what runs have
written is ever removed from one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from zoo_search.core.errors import UserError, some
from zoo_search.core.files import ASIDE, is_full, is_refused
from zoo_search.core.store import MANIFEST, RunStore
from zoo_search.core.version import FORMAT, MARK, __version__, check_format
from zoo_search.run.owner import OWNER, lives, owner_of, this_process

_BEAT = 30.0  # seconds between signs of life on object storage
LOCK_SETTLE = 1.0  # seconds after which what two processes wrote at once is one of both


def claim(store: RunStore) -> None:
    """Make a directory a run's: a new or empty one, or one that is a run's already.

    Names with a dot in front do not count as something that lies there.

    Raises:
        UserError: If it holds other things, or was written by a later version; if something in it
            leads to files elsewhere, or is a pipe.
    """
    if store.is_local:
        _check_kinds(Path(store.path("")))
    names = [name for name in store.list("") if not name.startswith(".")]
    if MARK in names:
        check_format(store)
        return
    if MANIFEST in names:
        store.manifest()  # of a run by a version that wrote no mark
        if store.is_local and not os.access(store.path(""), os.W_OK):
            return
    elif names:
        raise UserError(
            f"The run directory {store.url} holds other things: {some(names, ', ', ' and')}. "
            "A run writes and removes files by its own names there, so give a new or empty "
            "directory with --dir, or that of an earlier run."
        )
    _mark(store)


def _mark(store: RunStore) -> None:
    """Write the mark, on a disk once alone: the lock is on this very file."""
    said = {"format": FORMAT, "made_by": __version__}
    if not store.is_local:
        store.write_json(MARK, said)
        return
    place = Path(store.path(MARK))
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f"{ASIDE}{uuid.uuid4().hex}-{MARK}")
    try:
        aside.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        try:
            os.link(aside, place)  # unlike a renaming, it never takes the place of another
        except OSError:
            if not place.exists():  # no other process was faster: a drive without such links
                aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)
    check_format(store)


def _check_kinds(root: Path) -> None:
    """Refuse a directory in which a run would write through a link, or wait for a pipe.

    Folders that are links and lead elsewhere, and files that are written in place: others are
    written aside. What users keep beside a winner's files, exports, and what Ray keeps under new
    names are not looked at.
    """
    own = root.resolve()
    for folder, inside, files in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        theirs = parts[:1] == ("exports",) or parts[:2] == ("finetune", "ray")
        if theirs or (parts[:1] == ("winners",) and len(parts) > 1):
            inside.clear()
            continue
        in_place = parts[:1] == ("logs",)
        for path in [Path(folder, name) for name in (*inside, *files)]:
            if path.is_symlink():
                away = not path.resolve().is_relative_to(own)
                writes = path.is_dir() or in_place or path.name == "study.journal"
                problem = f"is a link to {path.resolve()}" if away and writes else None
            else:
                regular = path.is_file() or path.is_dir() or not path.exists()
                problem = None if regular else "is a pipe, a socket or a device"
            if problem is not None:
                raise UserError(
                    f"{path} {problem}. In a run directory only files and folders of its own are "
                    "read and written. Remove it, or give another directory with --dir."
                )


@contextlib.contextmanager
def alone(store: RunStore) -> Iterator[None]:
    """Keep other processes out of a run directory while the block runs.

    On this machine, and on network drives that know locks, the lock ends with the process, however
    that ends. On object storage it is a file with signs of life; a process that has given none for
    five minutes counts as dead, and two that begin within a second of each other may both be sent
    away. A directory that cannot be written to needs no lock.

    Raises:
        UserError: If another process works there: says which, and since when.
    """
    with _locked(store) if store.is_local else _signed(store):
        yield


def sweep(store: RunStore) -> None:
    """Remove what a process that was killed had not finished writing."""
    for name in store.unfinished():
        store.remove(name)


@contextlib.contextmanager
def writable(store: RunStore) -> Iterator[None]:
    """Say in one paragraph what the file system refuses inside the block.

    Raises:
        UserError: If there is no room, or no leave to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _OTHER_KINDS:
            place = error.filename2 or error.filename or store.url
            raise UserError(
                f"{place} cannot be used ({error.strerror}): a run keeps something else there. "
                "Look at it, remove it, then run the same command again."
            ) from None
        if not is_full(error) and not is_refused(error):
            raise
        raise UserError(
            f"{error.filename or store.url} cannot be written ({error.strerror}). Free some room, "
            "or give a directory that you may write to with --dir, then run the same command "
            "again: what is finished is kept."
        ) from None


_OTHER_KINDS = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


@contextlib.contextmanager
def _locked(store: RunStore) -> Iterator[None]:
    import fcntl

    place = Path(store.path(MARK))
    if not place.exists():  # a run of an earlier version, where nobody may write
        yield
        return
    # Network drives want a lock that excludes to be one for writing.
    file = os.open(place, os.O_RDWR if os.access(place, os.W_OK) else os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise  # the drive knows no locks
            raise _taken(store) from None
        with contextlib.suppress(OSError):  # it is for people, the lock holds without it
            store.write_json(OWNER, this_process())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                store.remove(OWNER)
    finally:
        os.close(file)


@contextlib.contextmanager
def _signed(store: RunStore) -> Iterator[None]:
    me, ended = {**this_process(), "token": uuid.uuid4().hex}, threading.Event()

    def sign() -> None:
        store.write_json(OWNER, {**me, "beat": time.time()})

    def beat() -> None:
        while not ended.wait(_BEAT):
            with contextlib.suppress(Exception):  # the next one may get through
                sign()

    found = owner_of(store)
    if found is not None and lives(found):
        raise _taken(store)
    sign()
    time.sleep(LOCK_SETTLE)
    if (owner_of(store) or {}).get("token") != me["token"]:
        raise _taken(store)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if (owner_of(store) or {}).get("token") == me["token"]:
            store.remove(OWNER)


def _taken(store: RunStore) -> UserError:
    owner = owner_of(store) or {}
    who = "another process"
    if {"host", "process", "since"} <= set(owner):
        who = f"process {owner['process']} on {owner['host']}, since {owner['since']}"
    return UserError(
        f"In the run directory {store.url} {who} is at work. Let it end, or end it, then run this "
        "command again; or give another directory with --dir."
    )
