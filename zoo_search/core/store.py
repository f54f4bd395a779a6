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
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Literal, TypedDict

from zoo_search.core.errors import UserError
from zoo_search.core.files import ASIDE, Place, atomic_path, file_system, is_local, open_whole
from zoo_search.core.identity import fingerprint

MANIFEST = "manifest.json"
_FORMAT = 1
_WHOLE = ".whole"
_CHUNK = 1 << 20


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
        if not self.is_local and self.fs.isdir(inner):
            # An object store puts a folder in place file by file; the mark comes last.
            return bool(self.fs.exists(f"{inner}/{_WHOLE}"))
        return bool(self.fs.exists(inner))

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

    def remove(self, name: str) -> None:
        """Remove an artifact if it is there."""
        if self.fs.exists(self._inner(name)):
            self.fs.rm(self._inner(name), recursive=True)

    def open(
        self, name: str, mode: Literal["rb", "wb"] = "rb"
    ) -> AbstractContextManager[IO[bytes]]:
        """Open an artifact; what is written appears only when the block ends well."""
        if mode == "wb":
            return open_whole(self.fs, self._inner(name), local=self.is_local)
        found: AbstractContextManager[IO[bytes]] = self.fs.open(self._inner(name), mode)
        return found

    @contextlib.contextmanager
    def local_folder(self, name: str) -> Iterator[Path]:
        """Give an empty local folder; it becomes the artifact ``name`` when the block ends."""
        target = self._inner(name)
        if self.is_local:
            with atomic_path(Path(target)) as aside:
                aside.mkdir()
                yield aside
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            self.remove(name)
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
        """Read a JSON artifact."""
        return json.loads(self.read_text(name))

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
        try:
            record = self.read_json(MANIFEST)
        except ValueError:
            raise UserError(
                f"{self.path(MANIFEST)} is not valid JSON. Remove it: the steps will run again."
            ) from None
        steps: dict[str, StepRecord] = record["steps"] if record.get("format") == _FORMAT else {}
        return steps

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
            "artifacts": {name: self.digest(name) for name in artifacts},
            "seconds": round(seconds, 2),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self.write_json(MANIFEST, {"format": _FORMAT, "steps": steps})

    def result_of(self, step: str) -> str:
        """Return the hash of what a finished step wrote, for the steps that read it."""
        return fingerprint(self.manifest()[step]["artifacts"])
