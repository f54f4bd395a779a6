"""What lies below a folder of this machine: links are followed, and nothing is passed over.

fsspec's own walk takes a link to a folder for a file, and leaves out what it may not read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from zoo_search.core.errors import UserError

_Key = tuple[int, int]


def folders_in(folder: str) -> list[str]:
    """Return the names of the folders in a folder, links to folders among them.

    Raises:
        UserError: If it cannot be read, or holds a link, of a name without a dot, to nothing.
    """
    found = []
    for entry in _entries(folder):
        if _is_folder(entry):
            found.append(entry.name)
        elif "." not in entry.name and entry.is_symlink() and not _exists(entry):
            raise UserError(
                f"dataset.path: {entry.path} is a link to {os.readlink(entry.path)}, where nothing "  # noqa: PTH115
                "is. Where a folder of images is meant, mend the link; else remove it."
            )
    return found


def files_below(folder: str) -> Iterator[tuple[str, int]]:
    """Yield path and bytes of all that is no folder, in no order; a link to nothing has none.

    A folder that two links lead to is yielded under both names.

    Raises:
        UserError: If a folder cannot be read, or lies inside itself by a link.
    """
    # Each folder with those around it: a link back to one of these would never end.
    waiting: list[tuple[str, tuple[_Key, ...]]] = [(folder, ())]
    while waiting:
        path, around = waiting.pop()
        key = _key(path)
        if key in around:
            raise _loop(path)
        for entry in _entries(path):
            if _is_folder(entry):
                waiting.append((entry.path, (*around, key)))
            else:
                yield entry.path, entry.stat().st_size if _exists(entry) else 0


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise _unreadable(folder, error) from None


def _key(folder: str) -> _Key:
    try:
        facts = os.stat(folder)  # noqa: PTH116
    except OSError as error:
        raise _unreadable(folder, error) from None
    return facts.st_dev, facts.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _loop(entry.path) from None
        raise _unreadable(entry.path, error) from None


def _exists(entry: os.DirEntry[str]) -> bool:
    """Say whether there is a file behind a name; links that lead to nothing have none."""
    try:
        entry.stat()
    except OSError:
        return False
    return True


def _loop(path: str) -> UserError:
    link = path
    while not os.path.islink(link) and link != os.path.dirname(link):  # noqa: PTH114, PTH120
        link = os.path.dirname(link)  # noqa: PTH120
    return UserError(
        f"dataset.path: {link} is a link that leads back to a folder around it or to itself, so "
        "that its files would never end. Remove the link."
    )


def _unreadable(path: str, error: OSError) -> UserError:
    return UserError(
        f"dataset.path: {path} cannot be read ({error.strerror or error}), and images may lie "
        "there. Give yourself leave to read it, or remove it."
    )
