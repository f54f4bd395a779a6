"""Where a Ray that is started here keeps its files: sockets among them, whose paths have a limit.

Ray takes ``RAY_TMPDIR``, else on Linux ``TMPDIR``, which batch systems set to long paths.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from zoo_search.core.errors import UserError

MOST = (103 if sys.platform == "darwin" else 107) - len(
    "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99"
)
"""Bytes of the longest folder that sockets fit into: the path of one has 107 at most (AF_UNIX)."""
_PARENTS = ("/tmp", "/var/tmp")  # what is made there is private


def configured() -> str:
    """Return the folder that Ray would take by itself."""
    default = tempfile.gettempdir() if sys.platform == "win32" else "/tmp"
    named = os.environ.get("TMPDIR") if sys.platform.startswith("linux") else None
    return os.environ.get("RAY_TMPDIR") or named or default


def is_too_long(folder: str) -> bool:
    """Say whether the paths of sockets below a folder would be longer than the system allows."""
    return sys.platform != "win32" and len(os.fsencode(folder.rstrip("/"))) > MOST


def short_folder() -> Path:
    """Return a folder with a short path that only this user can enter; it is made if need be.

    Its parent is for everybody: what already lies there under the name of ours is taken only if
    it is a folder of this user's that nobody else may enter, and no link; then nobody can put
    anything else in its place.

    Raises:
        UserError: If there is no place for it.
    """
    for parent in _PARENTS:
        with contextlib.suppress(OSError):
            if not _keeps_names(parent):
                continue
            place = Path(parent, f"zoo-search-{os.geteuid()}")
            with contextlib.suppress(FileExistsError):
                place.mkdir(0o700)
            if _is_private(place):
                return place
            return Path(tempfile.mkdtemp(prefix="zs-", dir=parent))
    raise UserError(
        f"{configured()} is too long for Ray, whose sockets lie below it (at most {MOST} bytes), "
        f"and in {' or '.join(_PARENTS)} no folder can be made. Set RAY_TMPDIR to a folder with a "
        "short path that you may write to."
    )


def note(folder: str, short: Path) -> str:
    """Return what a user is told where a folder is too long."""
    return (
        f"{folder} ({len(os.fsencode(folder))} bytes) is too long for Ray's sockets, which lie "
        f"below it: at most {MOST} bytes are. Ray keeps its files in {short} instead. Set "
        "RAY_TMPDIR to choose another short folder."
    )


def _keeps_names(parent: str) -> bool:
    """Say whether nobody but its owner, or root, can rename what lies in a folder."""
    facts = os.stat(parent)  # noqa: PTH116
    others_write = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return facts.st_uid in (0, os.geteuid()) and (
        not others_write or bool(facts.st_mode & stat.S_ISVTX)
    )


def _is_private(place: Path) -> bool:
    facts = place.lstat()
    return (
        stat.S_ISDIR(facts.st_mode)
        and facts.st_uid == os.geteuid()
        and not facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        and os.access(place, os.W_OK | os.X_OK)
    )
