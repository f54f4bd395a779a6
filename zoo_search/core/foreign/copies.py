"""Copies of what lies at a URI: never larger than the disk has room for, whatever is sent."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fsspec.callbacks import Callback

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.files import Place, file_system, gb, is_local

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_USED = 0.9  # of what is free on the disk, so that something is left for everybody else
_TEXT = 2**26  # bytes of a file that is read as a text
_TEXTS = (".json", ".yaml", ".yml")


class TooLargeError(OSError):
    """A file is larger than its copy may be, or is said to be; it says both."""


def copy_here(fs: AbstractFileSystem, source: str, target: Path) -> None:
    """Copy a file of a file system to a local path.

    It may take nine tenths of what is free on the disk; JSON and YAML 67 MB. What is too large by
    the size that the storage tells is not begun; what goes on beyond it is stopped, and removed.

    Raises:
        TooLargeError: If it is too large.
        Exception: Whatever the storage raises.
    """
    free = shutil.disk_usage(target.parent).free
    most, why = int(_USED * free), f"{gb(free)} are free in {target.parent}"
    if source.endswith(_TEXTS) and most > _TEXT:
        most, why = _TEXT, "it is read as a text"
    try:
        fs.get_file(source, str(target), callback=_Counted(most, why))
        if target.is_file() and target.stat().st_size > most:  # of a storage that tells nothing
            raise TooLargeError(f"it has {gb(target.stat().st_size)}, and {why}")
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink()
        raise


def name_of_copy(path: str) -> str:
    """Return what the copy of something at a URI is called: as it is there, if it can be.

    A name of no file (``..``) would lead out of the copy's folder; a query may hold keys, which
    messages would tell with the name.
    """
    name = path.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]
    return "files" if name in ("", ".", "..") or len(os.fsencode(name)) > _LONGEST else name


_LONGEST = 200  # bytes of a name; file systems take 255


@contextlib.contextmanager
def fetched(place: Place, names: Collection[str] | None = None) -> Iterator[Path]:
    """Give a local path of a file, or of a folder with its files of these names: copies of a URI's.

    What is not there is not there in the copy either.

    Raises:
        UserError: If it cannot be fetched, or what the block raises, in terms of the URI.
    """
    fs, root = file_system(place)
    if is_local(place):
        yield Path(root)
        return
    with tempfile.TemporaryDirectory(prefix="zoo-search-") as folder:
        copy = Path(folder) / name_of_copy(root)
        try:
            pairs = [(f"{root.rstrip('/')}/{name}", copy / name) for name in names or ()]
            for source, target in pairs if names is not None else [(root, copy)]:
                if names is None or fs.isfile(source):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    copy_here(fs, source, target)
        except Exception as error:  # each storage raises errors of its own
            raise UserError(
                f"{os.fspath(place)} cannot be read ({first_line(error)}). Check the address and "
                "your access to it, or give the path of a local copy."
            ) from None
        try:
            yield copy
        except UserError as error:
            raise UserError(str(error).replace(str(copy), os.fspath(place))) from None


class _Counted(Callback):  # type: ignore[misc]  # fsspec has no types
    """Is told of each part that arrives, and raises when they are too many."""

    def __init__(self, most: int, why: str) -> None:
        super().__init__()
        self._most, self._why = most, why

    def set_size(self, size: int | None) -> None:
        if size is not None and size > self._most:
            raise TooLargeError(f"it has {gb(size)}, and {self._why}")

    def relative_update(self, inc: int = 1) -> None:
        self.value += inc
        if self.value > self._most:
            raise TooLargeError(f"more than {gb(self._most)} came, and {self._why}")

    def absolute_update(self, value: int) -> None:
        self.value = 0
        self.relative_update(value)
