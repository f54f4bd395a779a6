"""What a run file needs of this machine, as one archive for a cluster's job server.

That is the run file, what it names by relative paths, and the Python modules that it names. They
lie to each other as they do here, so that relative paths mean the same. What is named by an
absolute path, one from ``~``, or a URI has to be on the cluster.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zoo_search.config import JobConfig
from zoo_search.core.errors import UserError, some
from zoo_search.core.files import gb
from zoo_search.core.imports import PREFIX
from zoo_search.core.redaction import holds_key
from zoo_search.core.version import MARK
from zoo_search.core.yaml_text import texts
from zoo_search.data.sources.walking import files_below

_LIMIT = 100 * 2**20  # bytes that Ray's job server takes, where Ray does not say
_LARGEST = 5
_TIME = (1980, 1, 1, 0, 0, 0)  # of every file: equal files make an equal archive


@dataclass(frozen=True)
class Upload:
    """Files that travel, and where they lie to each other."""

    root: Path
    """The folder that holds them all, here."""
    files: Mapping[Path, tuple[Path, int]]
    """By its path without links and ``..`` on the way: where each file is read, and its bytes."""
    named: tuple[str, ...]
    """What travels, in words."""
    left: tuple[str, ...]
    """What has to be on the cluster, in words."""
    working: str
    """The working directory, from the root."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(size for _, size in self.files.values())

    def __str__(self) -> str:
        count = "1 file" if len(self.files) == 1 else f"{len(self.files)} files"
        return f"{count}, {gb(self.bytes)}: {', '.join(self.named)}"

    def name(self, path: Path) -> str:
        """Return the path of a file below the root."""
        return str(PurePosixPath(path.relative_to(self.root)))

    def check(self, limit: int | None = None) -> None:
        """Refuse more than the job server takes; ``limit`` is in bytes, by default Ray's own.

        Raises:
            UserError: Names the largest files.
        """
        limit = most() if limit is None else limit
        if self.bytes <= limit:
            return
        largest = sorted(self.files, key=lambda path: -self.files[path][1])[:_LARGEST]
        told = ", ".join(f"{self.name(path)} ({gb(self.files[path][1])})" for path in largest)
        raise UserError(
            f"What the run file needs of this machine is too large to travel: {self}; Ray's job "
            f"server takes {gb(limit)} at most. The largest files are {told}. Put what is large on "
            "a drive that all machines of the cluster have, and name it by its absolute path, or "
            "in object storage (zoo-search data pack writes a data set there), and name it by its "
            "URI."
        )

    def write(self, target: Path) -> None:
        """Write the archive, a ``.zip``: the same bytes for the same files."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in sorted(self.files):
                told = zipfile.ZipInfo(self.name(path), _TIME)
                told.compress_type = zipfile.ZIP_DEFLATED
                told.external_attr = 0o644 << 16
                archive.writestr(told, self.files[path][0].read_bytes())

    def command(self, job: Path, options: Sequence[str]) -> list[str]:
        """Return the command that runs the job where the files were unpacked."""
        there = os.path.relpath(os.path.normpath(job.absolute()), self.root / self.working)
        return ["zoo-search", "run", there, *options]


def upload_of(job: Path, config: JobConfig) -> Upload:
    """Return what a run file needs of this machine.

    Raises:
        UserError: If something that it names by a relative path is not there, or could not be found
            again when the job is over.
    """
    job, working = job.absolute(), Path.cwd()
    found = {job: job.stat().st_size}
    named, left = [job.name], []
    for place, option in config.paths().items():
        told = f"{option.given} ({place})"
        if not option.is_relative:
            left.append(told)
            continue
        if place == "search.storage":
            raise UserError(
                f"{place}: {option.given} is a file beside the run file, and on the cluster it "
                "would be gone with the job. Give an absolute path there, the address of a data "
                "base, or leave it out: then the study lies in the run directory."
            )
        if not option.place.exists():
            raise UserError(
                f"{place}: there is nothing at {option.place}, so it cannot travel to the cluster. "
                "Mend the path; where it means a place on the cluster, write it as an absolute one."
            )
        found |= _files(option.place)
        named.append(told)
    for folder, modules in _modules(config, (job.parent, working)).items():
        found |= modules
        named.append(f"Python files of {folder.name}")
    # An archive holds no `..`, and no links.
    files = {Path(os.path.normpath(path)): (path, size) for path, size in found.items()}
    root = Path(os.path.commonpath([working, *(path.parent for path in files)]))
    _check_names(files)
    return Upload(root, files, tuple(named), tuple(left), os.path.relpath(working, root))


def check_keys(job: Path, config: JobConfig) -> None:
    """Refuse a run file with keys in it: it travels as it is, and all of a cluster can read it.

    Raises:
        UserError: Names each option that holds one, or the line where it stands in a remark.
    """
    found = [at for at, text in texts(config.model_dump(mode="json")) if holds_key(text)]
    lines = job.read_text(encoding="utf-8").splitlines()
    found = found or [f"line {n}" for n, line in enumerate(lines, 1) if holds_key(line)]
    if found:
        raise UserError(
            f"{job}: {some(found, ', ', ' and')} holds a key in an address, and everybody who sees "
            "the cluster can read a run file that was submitted. Write addresses without keys, and "
            "give the keys to the cluster's machines: to storage by its variables of the "
            "environment (AWS_ACCESS_KEY_ID, …) or its own file, to a data base by its own "
            "(PGPASSWORD, ~/.pgpass, an option file of MySQL). What only a signed address leads "
            "to, put on a drive of the cluster and name it by its absolute path."
        )


def most() -> int:
    """Return the bytes of the largest archive that Ray's job server takes."""
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    server = getattr(ray_constants, "DASHBOARD_CLIENT_MAX_SIZE", _LIMIT)
    return int(min(server, getattr(packaging, "GCS_STORAGE_MAX_SIZE", server)))


def _files(place: Path) -> dict[Path, int]:
    if place.is_file():
        return {place: place.stat().st_size}
    found = {Path(path): size for path, size in files_below(str(place))}
    # Hidden ones (.env, .git) are no images, and may be secrets.
    seen = {p: size for p, size in found.items() if not _is_hidden(p.relative_to(place))}
    return {path: size for path, size in seen.items() if path.is_file()}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _modules(config: JobConfig, folders: Sequence[Path]) -> dict[Path, dict[Path, int]]:
    """Return the Python files below each folder that holds a module of the run file."""
    tops = {name.split(".")[0] for name in _named_modules(config.model_dump(mode="json"))}
    holding = [
        folder
        for folder in dict.fromkeys(folders)
        if any((folder / top).is_dir() or (folder / f"{top}.py").is_file() for top in tops)
    ]
    return {
        folder: {path: path.stat().st_size for path in _python_files(folder)} for folder in holding
    }


def _named_modules(value: object) -> Iterator[str]:
    """Yield the modules of all functions that a configuration names."""
    if isinstance(value, str) and value.startswith(PREFIX):
        yield value.removeprefix(PREFIX).partition(":")[0]
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _named_modules(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named_modules(inner)


def _python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files below a folder, but hidden ones and those of environments and runs."""
    for place, inside, files in os.walk(folder):
        skipped = {"pyvenv.cfg", MARK} & set(files)
        inside[:] = [] if skipped else [n for n in inside if n[0] != "." and n != "__pycache__"]
        if not skipped:
            yield from (Path(place, name) for name in files if name.endswith(".py"))


def _check_names(files: Iterable[Path]) -> None:
    for path in files:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{path} has a name that is no UTF-8, which an archive cannot hold. Rename it, or "
                "put the folder on a drive of the cluster and name it by its absolute path."
            ) from None
