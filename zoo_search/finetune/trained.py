"""Fine-tuned networks in the run directory: those of this run, and those of an earlier one."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from zoo_search.core.errors import UserError
from zoo_search.finetune.entries import PROTOCOLS, ProtocolResult
from zoo_search.training.schedules import Protocol
from zoo_search.zoo.checkpoint import state_sha256

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore
    from zoo_search.export.config import Metadata

_STATE, _FAILED = "model.safetensors", "finetune/failed"


@dataclass(frozen=True)
class Trained:
    """What became of a task: what each protocol gave, and the state dict at the end."""

    protocols: Mapping[Protocol, ProtocolResult]
    state: Mapping[str, Tensor]


@contextmanager
def room_for(what: str, store: RunStore) -> Iterator[None]:
    """Say it so where a run directory has no room for what is written inside.

    Raises:
        UserError: If the disk, or what one may use of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"There is no room for {what} in {store.url} ({error.strerror}). Free some, then run "
            "the same command again: the fine-tuning goes on from its last checkpoint."
        ) from error


def folder_of(key: str) -> str:
    """Return where a finished task lies in the run directory while the step runs."""
    return f"finetune/{key}"


def keep_trained(store: RunStore, key: str, trained: Trained) -> None:
    """Put a finished task where :func:`read_trained` finds it."""
    with room_for("a fine-tuned network", store), store.local_folder(folder_of(key)) as folder:
        save_file(dict(trained.state), folder / _STATE)
        (folder / "protocols.json").write_bytes(PROTOCOLS.dump_json(trained.protocols))


def read_trained(store: RunStore, key: str) -> Trained:
    """Return a finished task."""
    return Trained(
        PROTOCOLS.validate_json(store.read_bytes(f"{folder_of(key)}/protocols.json")),
        load(store.read_bytes(f"{folder_of(key)}/{_STATE}")),
    )


@dataclass(frozen=True)
class Failure:
    """Why a task has no end: its training diverged, or something that a user has to mend."""

    reason: str
    diverged: bool


def keep_failure(store: RunStore, key: str, failure: Failure) -> None:
    """Put it where :func:`failure_of` finds it; on a full disk it goes untold."""
    with suppress(OSError):
        store.write_json(f"{_FAILED}/{key}.json", vars(failure))


def failure_of(store: RunStore, key: str) -> Failure | None:
    """Return why a task was given up, or None if it was not."""
    name = f"{_FAILED}/{key}.json"
    return Failure(**store.read_json(name)) if store.exists(name) else None


def forget_failures(store: RunStore) -> None:
    """Let what was given up be tried again."""
    store.remove(_FAILED)


def keep_parts(store: RunStore, key: str, parts: int) -> None:
    """Remember in how many parts a share goes through a network that had no room otherwise."""
    store.write_json(f"finetune/parts/{key}.json", parts)


def parts_of(store: RunStore, key: str) -> int | None:
    """Return what :func:`keep_parts` was told last."""
    name = f"finetune/parts/{key}.json"
    return int(store.read_json(name)) if store.exists(name) else None


def earlier_winners(store: RunStore) -> dict[str, str]:
    """Return the whole and untouched folders of ``winners/`` of an earlier run, by task."""
    found = {}
    for number in store.list("winners"):
        folder = f"winners/{number}"
        if store.exists(folder):
            facts = _facts(store, folder)
            if "task" in facts and facts.get("state_sha256") == _digest(store, folder):
                found[facts["task"]] = folder
    return found


def read_winner(store: RunStore, folder: str) -> Trained:
    """Return a winner of an earlier run as the finished task that it was."""
    protocols = PROTOCOLS.validate_python(_facts(store, folder).get("protocols", {}))
    return Trained(protocols, load(store.read_bytes(f"{folder}/{_STATE}")))


def _facts(store: RunStore, folder: str) -> Metadata:
    try:
        facts: Metadata = store.read_json(f"{folder}/config.json")["metadata"]
    except (OSError, ValueError, KeyError):
        return {}
    return facts


def _digest(store: RunStore, folder: str) -> str | None:
    """Return the hash of the weights in a folder; None if they cannot be read."""
    try:
        return state_sha256(load(store.read_bytes(f"{folder}/{_STATE}")))
    except (OSError, SafetensorError):
        return None
