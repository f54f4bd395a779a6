"""Files at a local path or an fsspec URI: finding, reading and hashing them."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from zoo_search.config import DatasetConfig
from zoo_search.data.sources.listing import Unreadable
from zoo_search.errors import UserError

__all__ = ["HELD_OUT", "content_hash", "open_root", "read_files", "require_path", "sizes"]

HELD_OUT = ("test", "val", "valid", "validation")
"""Names of held-out splits; where a source has several, the first of these is the test split."""

_WHOLE = 256 * 2**20  # up to here every byte goes into the content hash
_SAMPLED, _EDGE = 1024, 64 * 2**10
_AT_ONCE, _TRIES = 32, 3
_GONE = (FileNotFoundError, PermissionError, IsADirectoryError)


def require_path(config: DatasetConfig) -> str:
    """Return ``config.path``, or raise :class:`UserError` if there is none."""
    if config.path is None:
        raise UserError(
            f"dataset.path is missing: the data set '{config.name}' needs the place of its images, "
            "a local path or a URI such as s3://bucket/images."
        )
    return config.path


def open_root(path: str) -> tuple[Any, str]:
    """Return the file system of a path or URI and the path in it, without a closing slash.

    Raises:
        UserError: If there is nothing there, or the URI's protocol is unknown or not installed.
    """
    try:
        fs, root = url_to_fs(str(Path(path).expanduser()) if "://" not in path else path)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"dataset.path: {path} cannot be opened ({error}). Give a local path, or a URI whose "
            f"protocol is installed: {', '.join(sorted(fsspec.available_protocols())[:12])}, …"
        ) from None
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
            "images; a relative path counts from the directory the command runs in."
        )
    return fs, root


def sizes(fs: Any, folder: str) -> dict[str, int]:
    """Return the size in bytes of every file below a folder, by path relative to it, sorted."""
    found = fs.find(folder, detail=True)
    start = len(folder.rstrip("/")) + 1
    return {path[start:]: int(found[path]["size"] or 0) for path in sorted(found)}


def content_hash(fs: Any, root: str, files: Mapping[str, int]) -> str:
    """Return SHA-256 over what the files hold; modification times play no part.

    Up to 256 MiB in all: over every name and every byte. Above: over every name and size, and
    the first and last 64 KiB of 1024 files spread evenly over the sorted names. A change inside a
    file that keeps its size can then go unseen.

    Args:
        fs: An fsspec file system.
        root: The folder in it.
        files: Size in bytes by path relative to ``root``.
    """
    names = sorted(files)
    digest = hashlib.sha256()
    if sum(files.values()) <= _WHOLE:
        for name, data in read_files(fs, root, names):
            data = data if isinstance(data, bytes) else b""
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
        return digest.hexdigest()
    digest.update("".join(f"{name}\0{files[name]}\0" for name in names).encode())
    for name in names[:: -(-len(names) // _SAMPLED)]:
        path, size = f"{root}/{name}", files[name]
        digest.update(fs.cat_file(path, start=0, end=min(size, _EDGE)))
        digest.update(fs.cat_file(path, start=max(0, size - _EDGE), end=size))
    return digest.hexdigest()


def read_files(
    fs: Any, root: str, names: Sequence[str]
) -> Iterator[tuple[str, bytes | Unreadable]]:
    """Yield (name, bytes) for files below a folder, 32 of them in flight on a remote store.

    A file that is gone or forbidden comes as :class:`Unreadable`.

    Raises:
        UserError: If the storage fails three times in a row on the same file.
    """
    for i in range(0, len(names), _AT_ONCE):
        part = list(names[i : i + _AT_ONCE])
        paths = [f"{root}/{name}" for name in part]
        results = fs.cat_ranges(paths, None, None, on_error="return")
        for name, path, data in zip(part, paths, results, strict=True):
            yield name, data if isinstance(data, bytes) else _again(fs, path, data)


def _again(fs: Any, path: str, error: Exception) -> bytes | Unreadable:
    """Read one file once more after an error, unless the error is final."""
    for attempt in range(1, _TRIES):
        if isinstance(error, _GONE):
            return Unreadable(f"{type(error).__name__} on {platform.node()}")
        time.sleep(0.5 * attempt)
        try:
            return bytes(fs.cat_file(path))
        except Exception as latest:  # each storage raises errors of its own
            error = latest
    raise UserError(
        f"Reading {path} failed {_TRIES} times ({type(error).__name__}: {error}). Check that the "
        "storage answers on every machine of the cluster, then run the same command again."
    ) from error
