"""Files at a local path or an fsspec URI: finding, reading and hashing them."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import IO, TYPE_CHECKING, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from zoo_search.config import DatasetConfig
from zoo_search.core.byte_names import escaped, restored
from zoo_search.core.errors import UserError
from zoo_search.core.files import RELATIVE, expanded, file_system
from zoo_search.data.sources.listing import Unreadable
from zoo_search.data.sources.walking import files_below, folders_in

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_WHOLE = 256 * 2**20  # up to here every byte goes into the content hash
_SAMPLED, _EDGE = 1024, 64 * 2**10
_AT_ONCE, _TRIES = 32, 3
_SPECIAL = "no regular file but a pipe, a socket or a device"
_GONE = (FileNotFoundError, PermissionError, IsADirectoryError)


def extra_package(module: str, extra: str, config: DatasetConfig) -> ModuleType:
    """Import a module of an optional extra, or raise :class:`UserError` with the way to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"dataset.name: '{config.name}' needs the package {module.split('.')[0]}, which is not "
            f"installed. Run: pip install 'zoo-search[{extra}]'"
        ) from None


class Part(NamedTuple):
    """The bytes ``[start, stop)`` of a file, under a key; without limits the whole file."""

    key: str
    name: str
    start: int | None = None
    stop: int | None = None


def open_tree(config: DatasetConfig) -> FileTree:
    """Return the files below ``config.path``, a local path or an fsspec URI.

    Raises:
        UserError: If there is no path, nothing is there, or the URI's protocol is unknown or not
            installed.
    """
    path = config.path
    if path is None:
        raise UserError(
            f"dataset.path is missing: the data set '{config.name}' needs the place of its images, "
            "a local path or a URI such as s3://bucket/images."
        )
    local = "://" not in path
    if local:
        path = expanded(path)
        if not os.path.exists(path):  # noqa: PTH110  # Path's raises for names that are too long
            path = restored(path)  # as a run file has the bytes of a path that is no UTF-8
    fs, root = file_system(path, "dataset.path:")
    root = root.rstrip("/") or "/"
    try:
        there = fs.exists(root)
    except Exception as error:  # each storage raises errors of its own
        raise UserError(
            f"dataset.path: {path} cannot be reached ({type(error).__name__}: {error}). Check the "
            "network and the credentials that this storage needs."
        ) from error
    if not there:
        raise UserError(
            f"dataset.path: there is nothing at {path}. Give the folder or file that holds the "
            f"images. {RELATIVE}"
        )
    return FileTree(fs, root)


def open_files(config: DatasetConfig, *endings: str) -> tuple[FileTree, dict[str, int]]:
    """Return a folder and the size of each file below it with such an ending, by name, sorted.

    ``config.path`` is the folder, or one such file in it. Hidden files are left out.

    Raises:
        UserError: As :func:`open_tree`, or if there is no such file.
    """
    tree = open_tree(config)
    if tree.fs.isfile(tree.root):
        folder, _, name = tree.root.rpartition("/")
        return FileTree(tree.fs, folder), {name: int(tree.fs.size(tree.root))}
    found = {
        name: size
        for name, size in tree.sizes().items()
        if name.endswith(endings) and not name.rpartition("/")[2].startswith(".")
    }
    if not found:
        raise UserError(f"dataset.path: there is no {endings[0]} file in {config.path}.")
    return tree, found


@dataclass(frozen=True)
class FileTree:
    """The files below one folder of a file system, named by their paths relative to it.

    Names are valid text, whatever bytes they hold (:mod:`zoo_search.core.byte_names`). Links are
    followed.
    """

    fs: AbstractFileSystem
    root: str
    """The folder, without a closing slash."""

    def path(self, name: str) -> str:
        """Return the path in the file system."""
        return f"{self.root}/{restored(name)}"

    @property
    def _is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading.

        Raises:
            UserError: If it is a pipe, a socket or a device, which might never end.
        """
        if self.is_special(name):
            raise UserError(
                f"dataset.path: {self.path(name)} is {_SPECIAL}. Only regular files are read, and "
                "links to them. Remove it."
            )
        stream: IO[bytes] = self.fs.open(self.path(name), "rb")
        return stream

    def is_special(self, name: str) -> bool:
        """Say whether a name is, through links, neither a file nor a folder.

        Only of this machine's own file systems can it be so; a name that is not there is none.
        """
        if not self._is_local:
            return False
        try:
            mode = os.stat(self.path(name)).st_mode  # noqa: PTH116  # ten times as fast as Path's
        except OSError:
            return False
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))

    def folders(self, inside: str = "") -> list[str]:
        """Return the names of the folders in a folder, sorted, hidden ones left out.

        Raises:
            UserError: As :func:`zoo_search.data.sources.walking.folders_in`.
        """
        top = self.path(inside).rstrip("/") or "/"
        if self._is_local:
            names = set(map(escaped, folders_in(top))) if os.path.isdir(top) else set()  # noqa: PTH112
        else:
            entries = self.fs.ls(top, detail=True)
            found = (e["name"] for e in entries if e["type"] == "directory")
            names = {escaped(path.rstrip("/").rpartition("/")[2]) for path in found}
        return sorted(n for n in names if n and not n.startswith((".", "__MACOSX")))

    def sizes(self, inside: str = "") -> dict[str, int]:
        """Return the size in bytes of every file below a folder, by name, sorted.

        Raises:
            UserError: As :func:`zoo_search.data.sources.walking.files_below`.
        """
        return dict(sorted(self.files(inside)))

    def files(self, inside: str = "") -> Iterator[tuple[str, int]]:
        """Yield what :meth:`sizes` returns, in no order, so that the first can be had alone."""
        top = self.path(inside).rstrip("/") or "/"
        start = len(self.root.rstrip("/")) + 1
        if self._is_local and os.path.isdir(top):  # noqa: PTH112
            for path, size in files_below(top):
                yield escaped(path[start:]), size
            return
        found = self.fs.find(top, detail=True)
        for path in found:
            yield escaped(path[start:]), int(found[path]["size"] or 0)

    def read_whole(self, name: str) -> bytes:
        """Return what a file holds; as :meth:`open`."""
        with self.open(name) as stream:
            return stream.read()

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | Unreadable]]:
        """Yield (name, bytes) of whole files; as :meth:`read_parts`."""
        return self.read_parts([Part(name, name) for name in names])

    def read_parts(self, parts: Sequence[Part]) -> Iterator[tuple[str, bytes | Unreadable]]:
        """Yield (key, bytes) of parts of files, 32 of them in flight on a remote store.

        A part of a file that is gone, forbidden or no regular file comes as :class:`Unreadable`.

        Raises:
            UserError: If the storage fails three times in a row on the same file.
        """
        for i in range(0, len(parts), _AT_ONCE):
            regular = []
            for part in parts[i : i + _AT_ONCE]:
                if self.is_special(part.name):
                    yield part.key, Unreadable(_SPECIAL)
                else:
                    regular.append(part)
            results = self.fs.cat_ranges(
                [self.path(part.name) for part in regular],
                [part.start for part in regular],
                [part.stop for part in regular],
                on_error="return",
            )
            for part, data in zip(regular, results, strict=True):
                yield part.key, data if isinstance(data, bytes) else self._again(part, data)

    def _again(self, part: Part, error: Exception) -> bytes | Unreadable:
        """Read one part of a file once more after an error, unless the error is final."""
        for attempt in range(1, _TRIES):
            if isinstance(error, _GONE):
                return Unreadable(f"{type(error).__name__} on {platform.node()}")
            time.sleep(0.5 * attempt)
            try:
                return bytes(self.fs.cat_file(self.path(part.name), part.start, part.stop))
            except Exception as latest:  # each storage raises errors of its own
                error = latest
        raise UserError(
            f"Reading {self.path(part.name)} failed {_TRIES} times ({type(error).__name__}: "
            f"{error}). Check that the storage answers on every machine of the cluster, then run "
            "the same command again."
        ) from error

    def content_hash(self, files: Mapping[str, int]) -> str:
        """Return SHA-256 over what the files hold; modification times play no part.

        Up to 256 MiB in all: over every name and every byte. Above: over every name and size, and
        the first and last 64 KiB of 1024 files spread evenly over the sorted names. A change
        inside a file that keeps its size can then go unseen. ``files`` are from :meth:`sizes`.
        """
        names = sorted(files)
        digest = hashlib.sha256()
        if sum(files.values()) <= _WHOLE:
            for name, data in self.read(names):
                data = data if isinstance(data, bytes) else b""
                digest.update(f"{name}\0{len(data)}\0".encode() + data)
            return digest.hexdigest()
        digest.update("".join(f"{name}\0{files[name]}\0" for name in names).encode())
        # Every step-th name, the step rounded up: at most 1024 names, none twice.
        for name in names[:: -(-len(names) // _SAMPLED)]:
            if self.is_special(name):
                continue
            path, size = self.path(name), files[name]
            digest.update(self.fs.cat_file(path, start=0, end=min(size, _EDGE)))
            digest.update(self.fs.cat_file(path, start=max(0, size - _EDGE), end=size))
        return digest.hexdigest()
