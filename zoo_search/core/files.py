"""Files at a local path or any fsspec URI: written aside, then put in place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import fsspec

from zoo_search.core.errors import UserError, first_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ASIDE = ".aside-"
"""How the names of files begin that are not whole yet."""

Place = str | os.PathLike[str]
"""A local path or an fsspec URI."""

RELATIVE = (
    "In a run file a relative path counts from the file's folder, on a command line from the "
    "working directory."
)
"""Where relative paths count from, for messages."""


_UMASK = os.umask(0)
os.umask(_UMASK)


def cache_folder(kind: str) -> Path:
    """Return where things of a kind are kept for all runs: ``$ZOO_SEARCH_CACHE/<kind>``.

    By default ``~/.cache/zoo-search/<kind>``; it need not exist yet.
    """
    root = os.environ.get("ZOO_SEARCH_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "zoo-search") / kind


@contextlib.contextmanager
def atomic_path(target: Path, own: Collection[str] | None = None) -> Iterator[Path]:
    """Give a path aside; the file or folder made there is renamed to ``target`` when all went well.

    So whoever looks at ``target`` finds all of it, old or new, or nothing. Its folder is made if
    it is not there.

    Args:
        target: A file, or a folder that is replaced with all that it holds.
        own: Names of what may lie in the folder that is replaced; anything else is not ours, and is
            taken over. None: all of it is.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{ASIDE}{uuid.uuid4().hex}-{target.name}")
    try:
        yield aside
        _set_modes(aside)
        # A rename replaces a file in one step, but no folder that holds something.
        if aside.is_dir() and target.exists():
            for other in others_in(target, own):
                other.rename(aside / other.name)
            shutil.rmtree(target)
        aside.replace(target)
    except OSError as error:
        if error.filename is None or ASIDE in str(error.filename):
            error.filename = str(target)  # for people: what is aside is gone when they hear of it
        raise
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # where nobody may write, that is refused, too
                aside.unlink(missing_ok=True)


def others_in(folder: Path, own: Collection[str] | None) -> list[Path]:
    """Return what lies in a folder under none of these names; nothing, where all is ours."""
    return [] if own is None else [path for path in folder.iterdir() if path.name not in own]


def _set_modes(path: Path) -> None:
    """Give files the mode that new files have: some libraries write them for their owner alone."""
    files = path.rglob("*") if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            file.chmod(0o666 & ~_UMASK)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a local file, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(place: Place) -> bytes:
    """Return what a file at a local path or an fsspec URI holds.

    Raises:
        UserError: As :func:`file_system`.
        OSError: If it cannot be read.
    """
    fs, path = file_system(place)
    data: bytes = fs.cat_file(path)
    return data


def write(place: Place, data: bytes) -> None:
    """Write a file at a local path or an fsspec URI, whole or not at all; folders are made.

    Raises:
        UserError: As :func:`file_system`.
        OSError: If it cannot be written.
    """
    fs, path = file_system(place)
    with open_whole(fs, path, local=is_local(place)) as stream:
        stream.write(data)


def expanded(path: str) -> str:
    """Return a local path with the home of its user in place of a leading ``~`` or ``~USER``."""
    try:
        return os.path.expanduser(path)  # noqa: PTH111  # Path's raises where there is no such user
    except ValueError:  # a name that holds the sign of value 0, as YAML may
        return path


def file_system(place: Place, what: str = "The file") -> tuple[AbstractFileSystem, str]:
    """Return the file system of a path or URI, and the path in it, absolute where it is local.

    Raises:
        UserError: If the URI's protocol is unknown, its driver is not installed, or what it leads
            through cannot be opened; ``what`` says what the place is.
    """
    try:
        fs, path = fsspec.core.url_to_fs(os.fspath(place))
    except Exception as error:  # an archive is opened here, and each storage has errors of its own
        raise UserError(
            f"{what} {os.fspath(place)} cannot be opened: {first_line(error)}. Give a local path, "
            "or a URI whose fsspec driver is installed (s3fs for s3://, gcsfs for gs://)."
        ) from None
    return fs, path


def is_full(error: BaseException | None) -> bool:
    """Say whether an error tells that a disk, or what one may use of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_refused(error: BaseException | None) -> bool:
    """Say whether an error tells that a file system lets nobody, or not this user, do something."""
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


# Whose errors are about the network and about credentials for it.
_LIBRARIES = frozenset({
    "adlfs", "aiobotocore", "aiohttp", "azure", "boto3", "botocore", "gcsfs", "google", "httpx",
    "httpcore", "paramiko", "requests", "s3fs", "urllib3",
})  # fmt: skip


def unreachable(error: BaseException) -> BaseException | None:
    """Return what tells that a storage does not answer, or not to this user; None: nothing does.

    That is an error itself or one that led to it.
    """
    return next((each for each in _causes(error) if _is_of_network(each)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_of_network(error: BaseException) -> bool:
    known = isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
    return known or type(error).__module__.partition(".")[0] in _LIBRARIES


def gb(count: float) -> str:
    """Return a number of bytes in words, such as ``1.2 GB``; a MB is 10^6 bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def is_local(place: Place) -> bool:
    """Say whether a path or URI lies on this machine, where a rename is all that it takes."""
    text = os.fspath(place)
    return "://" not in text or text.startswith("file://")


def absolute(place: Place) -> str:
    """Return a local path as an absolute one; a URI stays as it is."""
    text = os.fspath(place)
    return text if "://" in text else str(Path(expanded(text)).absolute())


def real(place: Place) -> str:
    """Return what a path or URI leads to, in one form for all that lead there; it need not exist.

    Raises:
        UserError: As :func:`file_system`.
    """
    fs, path = file_system(place)
    return str(Path(path).resolve()) if is_local(place) else str(fs.unstrip_protocol(path))


def joined(place: Place, *names: str) -> str:
    """Return the path or URI of what lies in a folder."""
    return "/".join([os.fspath(place).rstrip("/"), *names])


def is_file(place: Place) -> bool:
    """Say whether there is a regular file at a path or URI; nothing is there that cannot be seen.

    Raises:
        UserError: As :func:`file_system`.
    """
    fs, path = file_system(place)
    try:
        return Path(path).is_file() if is_local(place) else bool(fs.isfile(path))
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def made_at(place: Place, own: Collection[str] | None = None) -> Iterator[Path]:
    """Give a local path; the file or folder made there appears at a path or URI when all went well.

    At a URI the files of a folder appear one after the other, in the order of their names. ``own``
    is as in :func:`atomic_path`.

    Raises:
        UserError: If it cannot be written there.
    """
    fs, root = file_system(place)
    if is_local(place):
        with atomic_path(Path(root), own) as aside:
            yield aside
        return
    with tempfile.TemporaryDirectory(prefix="zoo-search-") as folder:
        made = Path(folder) / "made"
        yield made
        inside = sorted(path for path in made.rglob("*") if path.is_file())
        names = {made: root} | {p: f"{root}/{p.relative_to(made).as_posix()}" for p in inside}
        for path in inside if made.is_dir() else [made]:
            with path.open("rb") as stream, open_whole(fs, names[path], local=False) as target:
                shutil.copyfileobj(stream, target)
        for name in (own or ()) if made.is_dir() else ():
            if not (made / name).exists() and fs.exists(f"{root}/{name}"):
                fs.rm(f"{root}/{name}")


@contextlib.contextmanager
def open_whole(fs: AbstractFileSystem, target: str, *, local: bool) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when the block ends well."""
    if local:
        with atomic_path(Path(target)) as aside, aside.open("wb") as stream:
            yield stream
        return
    folder, _, base = target.rpartition("/")
    aside_name = f"{folder}/{ASIDE}{uuid.uuid4().hex}-{base}"
    try:
        fs.makedirs(folder, exist_ok=True)
        with fs.open(aside_name, "wb") as stream:
            yield stream
        fs.mv(aside_name, target)
    except NotImplementedError:
        raise UserError(
            f"{fs.unstrip_protocol(target)} cannot be written: this kind of storage is for reading "
            "alone. Give a local path, or a URI of object storage."
        ) from None
    except BaseException:
        with contextlib.suppress(OSError):
            fs.rm(aside_name)
        raise
