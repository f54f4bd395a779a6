"""The artifact store: a run directory as a local path or any fsspec URI.

Every artifact is written aside and then put in place, so that a half-written one is never taken
for whole. ``manifest.json`` records, for each step, the hash of what made its artifacts (its part
of the configuration, the code's format version, the hashes of its inputs) and the hash of what it
wrote; :meth:`RunStore.is_current` answers whether a step may be skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Literal, TypedDict

from zoo_search.core.errors import UserError
from zoo_search.core.files import (
    ASIDE,
    Place,
    atomic_path,
    file_system,
    is_local,
    open_whole,
    unreachable,
)
from zoo_search.core.identity import fingerprint, fingerprint_as_read
from zoo_search.core.json_text import read_json
from zoo_search.core.progress import console

MANIFEST = "manifest.json"
_FORMAT = 1
_WHOLE = ".whole"
_CHUNK = 1 << 20
_UNFINISHED = re.compile(rf"{re.escape(ASIDE)}[0-9a-f]+-")


class StepRecord(TypedDict):
    """What the manifest holds of a finished step: hashes of what made it and of what it wrote."""

    made_from: str
    artifacts: dict[str, str]
    seconds: float
    finished: str


class RunStore:
    """Reads and writes the artifacts of one run, at a local path or an fsspec URI.

    ``what`` is what a message calls the place.

    Raises:
        UserError: If the URI's protocol is unknown or its driver is not installed.
    """

    def __init__(self, url: Place, what: str = "The run directory") -> None:
        self.fs, self._root = file_system(url, what)
        self.is_local = is_local(url)
        self.url = self._root if self.is_local else os.fspath(url)
        # Pages hold no folders: to look whether one is a folder would read it, however long it is.
        self._is_web = self.url.startswith(("http://", "https://"))
        self._written: dict[str, str] = {}  # sha256 of what this object has written last, by name

    def __repr__(self) -> str:
        return f"RunStore({self.url!r})"

    def path(self, name: str) -> str:
        """Return the full path or URI of an artifact."""
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    def _inner(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Say whether an artifact (a file or a folder) is there, whole."""
        inner = self._inner(name)
        self.fs.invalidate_cache(inner.rpartition("/")[0])  # others write here, too
        if self._is_web:
            return self._is_page(inner)
        if not self.is_local and self.fs.isdir(inner):
            # An object store puts a folder in place file by file; the mark comes last.
            return bool(self.fs.exists(f"{inner}/{_WHOLE}"))
        return bool(self.fs.exists(inner))

    def _is_page(self, address: str) -> bool:
        """Say whether a web page is there; raise what a server that does not answer raises.

        fsspec tells both a page that is missing and a server that is silent as missing.
        """
        try:
            self.fs.info(address)
        except FileNotFoundError as error:
            silent = unreachable(error)
            if silent is not None and getattr(silent, "status", None) is None:
                raise silent from None
            return False
        return True

    def list(self, folder: str) -> list[str]:
        """Return the names inside a folder, sorted; empty if the folder is not there."""
        inner = self._inner(folder)
        self.fs.invalidate_cache(inner)  # others write here, too
        if not self.fs.isdir(inner):
            return []
        names = (
            str(path).rstrip("/").rsplit("/", 1)[-1] for path in self.fs.ls(inner, detail=False)
        )
        return sorted(n for n in names if n != _WHOLE and not n.startswith(ASIDE))

    def unfinished(self) -> set[str]:
        """Return the names, at any depth, under which something was written aside and left so."""
        root = self._root.rstrip("/")
        self.fs.invalidate_cache()
        found = set()
        # Empty folders are there on a disk alone.
        for path in self.fs.find(root, withdirs=self.is_local):
            parts = str(path).removeprefix(f"{root}/").split("/")
            place = next((n for n, part in enumerate(parts) if _UNFINISHED.match(part)), None)
            if place is not None:
                found.add("/".join(parts[: place + 1]))
        return found

    def remove(self, name: str, own: Collection[str] | None = None) -> None:
        """Remove an artifact if it is there; of a folder only what is called by its ``own`` names.

        Without such names, all of it.
        """
        self._written.pop(name, None)
        inner = self._inner(name)
        if not self.fs.exists(inner):
            return
        if own is not None and self.fs.isdir(inner) and set(self.list(name)) - set(own):
            for each in {*own, _WHOLE}:
                if self.fs.exists(f"{inner}/{each}"):
                    self.fs.rm(f"{inner}/{each}", recursive=True)
            return
        self.fs.rm(inner, recursive=True)

    def open(
        self, name: str, mode: Literal["rb", "wb"] = "rb"
    ) -> AbstractContextManager[IO[bytes]]:
        """Open an artifact; what is written appears only when the block ends well."""
        if mode == "wb":
            self._written.pop(name, None)
            return open_whole(self.fs, self._inner(name), local=self.is_local)
        found: AbstractContextManager[IO[bytes]] = self.fs.open(self._inner(name), mode)
        return found

    @contextlib.contextmanager
    def local_folder(self, name: str, own: Collection[str] | None = None) -> Iterator[Path]:
        """Give an empty local folder; it becomes the artifact ``name`` when the block ends.

        Of what lay there under other names than ``own``, if they are given, nothing is lost.
        """
        target = self._inner(name)
        if self.is_local:
            with atomic_path(Path(target), own) as aside:
                aside.mkdir()
                yield aside
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            self.remove(name, own)
            self.fs.makedirs(target, exist_ok=True)
            self.fs.put(f"{folder}/", f"{target}/", recursive=True)
            self.fs.pipe_file(f"{target}/{_WHOLE}", b"")

    @contextlib.contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """Give a local path of an artifact; a copy if the run is remote."""
        if self.is_local:
            yield Path(self._inner(name))
            return
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / name.rsplit("/", 1)[-1]
            self.fs.get(self._inner(name), str(place), recursive=True)
            yield place

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write an artifact at once."""
        with self.open(name, "wb") as stream:
            stream.write(data)
        self._written[name] = hashlib.sha256(data).hexdigest()

    def read_bytes(self, name: str) -> bytes:
        """Read an artifact whole."""
        with self.open(name, "rb") as stream:
            data: bytes = stream.read()
        return data

    def write_text(self, name: str, text: str) -> None:
        """Write a text artifact as UTF-8."""
        self.write_bytes(name, text.encode())

    def read_text(self, name: str) -> str:
        """Read a text artifact."""
        return self.read_bytes(name).decode()

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON artifact; NaN and infinity are refused, since JSON has none."""
        self.write_text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Read a JSON artifact.

        Raises:
            ValueError: As :func:`zoo_search.core.json_text.read_json`.
        """
        return read_json(self.read_bytes(name))

    def keep(self, name: str, value: object) -> None:
        """Write JSON that later commands go on from, with the hash of what it says."""
        self.write_json(name, {"check": fingerprint_as_read(value), "kept": value})

    def kept(self, name: str) -> Any:
        """Return what :meth:`keep` wrote; None if it is not there.

        A file that is not as it was written is said and removed: what it held is made anew.
        """
        if not self.exists(name):
            return None
        try:
            found = self.read_json(name)
            if found["check"] == fingerprint(found["kept"]):
                return found["kept"]
        except (ValueError, KeyError, TypeError):
            pass
        self.give_up(name)
        return None

    def give_up(self, name: str) -> None:
        """Say that an artifact is damaged, and remove it."""
        console.print(f"  {self.path(name)} changed after it was written: it is made anew")
        self.remove(name)

    def digest(self, name: str) -> str:
        """Return the sha256 of an artifact; of a folder, that of its files' names and digests."""
        inner = self._inner(name)
        if self.fs.isdir(inner):
            return fingerprint({child: self.digest(f"{name}/{child}") for child in self.list(name)})
        sha = hashlib.sha256()
        with self.fs.open(inner, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                sha.update(chunk)
        return sha.hexdigest()

    def manifest(self) -> dict[str, StepRecord]:
        """Return what is recorded of each step; empty for a new run."""
        if not self.exists(MANIFEST):
            return {}
        place = self.path(MANIFEST)
        try:
            record = self.read_json(MANIFEST)
            number = int(record["format"])
            found = fingerprint(record["steps"])
            if record.get("check", found) != found:
                raise ValueError("it changed after it was written")
            steps: dict[str, StepRecord] = {
                str(step): {
                    "made_from": str(each["made_from"]),
                    "artifacts": {str(n): str(d) for n, d in each["artifacts"].items()},
                    "seconds": float(each["seconds"]),
                    "finished": str(each["finished"]),
                }
                for step, each in record["steps"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{place} is not the record of a run's steps, or it is damaged. If the directory "
                "is a run's, remove this file: the steps will run again."
            ) from None
        if number > _FORMAT:
            raise UserError(
                f"{place} has the format {number}, and this version knows formats up to "
                f"{_FORMAT}. Use the version that wrote it, or give another directory with --dir."
            )
        return steps if number == _FORMAT else {}

    def is_current(self, step: str, made_from: str) -> bool:
        """Say whether ``step`` was made from exactly this and what it wrote is unchanged."""
        record = self.manifest().get(step)
        if record is None or record["made_from"] != made_from:
            return False
        return all(
            self.exists(name) and self.digest(name) == digest
            for name, digest in record["artifacts"].items()
        )

    def record(
        self, step: str, made_from: str, artifacts: Sequence[str], *, seconds: float
    ) -> None:
        """Record a finished step in the manifest: the last thing that a step does."""
        steps = self.manifest()
        steps[step] = {
            "made_from": made_from,
            # What was written here is known; what came between would not be what was made.
            "artifacts": {name: self._written.get(name) or self.digest(name) for name in artifacts},
            "seconds": round(seconds, 2),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        check = fingerprint(steps)
        self.write_json(MANIFEST, {"format": _FORMAT, "check": check, "steps": steps})

    def result_of(self, step: str) -> str:
        """Return the hash of what a finished step wrote, for the steps that read it."""
        return fingerprint(self.manifest()[step]["artifacts"])
