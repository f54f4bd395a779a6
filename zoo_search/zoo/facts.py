"""What ``zoo list`` and ``zoo inspect`` show, kept: an unchanged zoo is shown without torch.

A zoo is unchanged if the run file says the same of it, the files of its weights are the same to
the byte count and the nanosecond, and timm, torch and zoo-search are of the same version.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from zoo_search.config import JobConfig, JobSource, load_job
from zoo_search.core.errors import require
from zoo_search.core.files import cache_folder
from zoo_search.core.identity import fingerprint
from zoo_search.core.imports import PREFIX
from zoo_search.core.progress import working
from zoo_search.core.store import RunStore
from zoo_search.core.version import __version__
from zoo_search.zoo.listing import ModelDetail

if TYPE_CHECKING:
    from zoo_search.zoo.models import Zoo

_FORMAT = 2


@dataclass(frozen=True)
class _Kept:
    """A zoo's facts with what they were read from: path, bytes and time of change of each file."""

    files: dict[str, tuple[int, int]]
    models: list[ModelDetail]


_ADAPTER = TypeAdapter(_Kept)


def details(job: JobSource) -> list[ModelDetail]:
    """Return what there is to show of every model of a run file's zoo, in its order.

    Raises:
        UserError: As :func:`zoo_search.zoo.load.load_zoo`.
    """
    config = load_job(job)
    cache, name = RunStore(cache_folder("facts"), "The cache"), f"{_key(config)}.json"
    with contextlib.suppress(OSError, ValidationError):
        kept = _ADAPTER.validate_python(cache.kept(name))
        if all(_stamp(Path(path)) == stamp for path, stamp in kept.files.items()):
            return kept.models
    from zoo_search.zoo.listing import inspect_model
    from zoo_search.zoo.load import load_zoo

    with working("zoo: loading"):
        zoo = load_zoo(config)
        found = [inspect_model(model) for model in zoo.values()]
    if _can_be_kept(zoo, config):
        files = {str(m.file): _stamp(m.file) for m in zoo.values() if m.file is not None}
        with contextlib.suppress(OSError):  # no room, or nobody may write there: it goes without
            cache.keep(name, _ADAPTER.dump_python(_Kept(files, found), mode="json"))
    return found


def detail(job: JobSource, name: str) -> ModelDetail:
    """Return what there is to show of one model.

    Raises:
        UserError: As :func:`details`, and if there is no such model; names the nearest one.
    """
    config = load_job(job)
    require(name, config.zoo, f"The zoo has no model '{name}'.", "It has")
    return next(found for found in details(config) if found.row.name == name)


def _key(config: JobConfig) -> str:
    """Return the hash of all that is known of a zoo before anything of it is opened."""
    every = config.identity(unhashed=True)  # without options that came later and are not used
    said: dict[str, Any] = {
        key: every[key] for key in config.model_dump(include={"zoo", "input_size", "seed", "init"})
    }
    for name, entry in config.zoo.items():  # identities do not say where the weights lie
        said["zoo"][name]["weights"] = entry.weights
    versions = [version("timm"), version("torch"), __version__]
    return fingerprint([_FORMAT, versions, list(config.zoo), str(Path.cwd()), said])


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (-1, -1)
    return (stat.st_size, stat.st_mtime_ns)


def _can_be_kept(zoo: Zoo, config: JobConfig) -> bool:
    """Say whether all that decides on the facts can be looked at again without running code.

    That is not so for architectures and hooks that are functions of the user's, and for weights
    from a URI, of which no file stays here.
    """
    from zoo_search.hooks import as_hooks

    own = any(not hook.ours and "zoo" in hook.roles for hook in as_hooks(config.init))
    unseen = [m for m in zoo.values() if (own if m.spec.weights is None else m.file is None)]
    return not unseen and not any(m.spec.arch.startswith(PREFIX) for m in zoo.values())
