"""Fine-tuned networks in the run directory: those of this run, and those of an earlier one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic_core import to_json
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from zoo_search.core.errors import UserError
from zoo_search.core.files import is_full, sha256_of
from zoo_search.core.parquet import open_parquet
from zoo_search.core.progress import console
from zoo_search.export.config import CONFIG, is_as_written
from zoo_search.export.folder import FILES
from zoo_search.finetune.entries import PROTOCOLS, ProtocolResult, Result, plain_protocols
from zoo_search.training.order import Ints
from zoo_search.training.schedules import Protocol
from zoo_search.zoo.checkpoint import state_sha256

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore
    from zoo_search.export.config import FolderConfig, Metadata

_STATE, _PREDICTED = "model.safetensors", "predicted.safetensors"
_PROTOCOLS, _SUMS = "protocols.json", "sums.json"
_SCRATCH = "finetune"
_FAILED = "finetune/failed"
TASK = re.compile(r"[0-9a-f]{16}")
"""What folders of tasks are called by: their keys."""
PREDICTIONS = "predictions.parquet"
FILES_OF_A_WINNER = frozenset({*FILES, PREDICTIONS})
"""Names of what runs write into the folder of a winner; whatever else lies there is the user's."""
_FIELDS = [field.name for field in fields(Result)]


@dataclass(frozen=True)
class Trained:
    """What became of a task.

    Attributes:
        protocols: What each gave.
        predicted: Class of each test image in the end, int64 ``[N]``; -1: it could not be decoded.
            Empty where an earlier run has not kept it.
        state: The state dict that was kept; likewise.
    """

    protocols: Mapping[Protocol, ProtocolResult]
    predicted: Ints
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
        if not is_full(error):
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
        if trained.state:
            save_file(dict(trained.state), folder / _STATE)
        save_file({"predicted": torch.from_numpy(trained.predicted)}, folder / _PREDICTED)
        (folder / _PROTOCOLS).write_bytes(to_json(plain_protocols(trained.protocols)))
        sums = {path.name: sha256_of(path) for path in folder.iterdir()}
        (folder / _SUMS).write_text(json.dumps(sums), encoding="utf-8")


def is_finished(store: RunStore, key: str) -> bool:
    """Say whether a finished task is there as it was written; a damaged one is said and removed."""
    folder = folder_of(key)
    if not store.exists(folder):
        return False
    try:
        sums = store.read_json(f"{folder}/{_SUMS}")
        there = {name for name in store.list(folder) if name != _SUMS}
        whole = _PROTOCOLS in there and there == set(sums)
        if whole and all(store.digest(f"{folder}/{n}") == sums[n] for n in sums):
            return True
    except (OSError, ValueError, TypeError):
        pass
    store.give_up(folder)
    return False


def protocols_of(store: RunStore, key: str) -> Mapping[Protocol, ProtocolResult]:
    """Return what the protocols of a finished task gave."""
    return PROTOCOLS.validate_json(store.read_bytes(f"{folder_of(key)}/{_PROTOCOLS}"))


def read_trained(store: RunStore, key: str) -> Trained:
    """Return a finished task."""
    folder = folder_of(key)
    state = f"{folder}/{_STATE}"
    return Trained(
        protocols_of(store, key),
        load(store.read_bytes(f"{folder}/{_PREDICTED}"))["predicted"].numpy(),
        load(store.read_bytes(state)) if store.exists(state) else {},
    )


def forget_scratch(store: RunStore) -> None:
    """Remove what the step goes on from once it is finished; what else lies there stays."""
    ours = {"checkpoints", "failed", "parts", "ray"}
    names = store.list(_SCRATCH)
    store.remove(_SCRATCH, [name for name in names if name in ours or TASK.fullmatch(name)])


@dataclass(frozen=True)
class Failure:
    """Why a task has no end: its training diverged, or something that a user has to mend."""

    reason: str
    diverged: bool


def keep_failure(store: RunStore, key: str, failure: Failure) -> bool:
    """Put it where :func:`failure_of` finds it; return False where there is no room for that."""
    try:
        store.keep(f"{_FAILED}/{key}.json", vars(failure))
    except OSError:
        return False
    return True


def failure_of(store: RunStore, key: str) -> Failure | None:
    """Return why a task was given up, or None if it was not."""
    found = store.kept(f"{_FAILED}/{key}.json")
    return None if found is None else Failure(**found)


def forget_failures(store: RunStore) -> None:
    """Let what was given up be tried again."""
    store.remove(_FAILED)


def keep_parts(store: RunStore, key: str, parts: int) -> None:
    """Remember in how many parts a share goes through a network that had no room otherwise."""
    store.keep(f"finetune/parts/{key}.json", parts)


def parts_of(store: RunStore, key: str) -> int | None:
    """Return what :func:`keep_parts` was told last."""
    found = store.kept(f"finetune/parts/{key}.json")
    return None if found is None else int(found)


def earlier_winners(store: RunStore) -> dict[str, str]:
    """Return the whole and untouched folders of ``winners/`` of an earlier run, by their tasks."""
    found: dict[str, str] = {}
    for number in store.list("winners"):
        folder = f"winners/{number}"
        result = _result(store, folder)
        if result is not None:
            found |= {t.task: folder for t in (*result.trainings, *result.retrained) if t.task}
        else:
            told = f"  {store.path(folder)} is not as it was written: it is made anew"
            console.print(told, soft_wrap=True)
    return found


def take_over(store: RunStore, folder: str, keys: Sequence[str]) -> None:
    """Put the trainings of an earlier winner where finished tasks lie.

    All of them, if these are the ``keys`` that are asked for: the weights of one and the results of
    the others. Else the exported one alone, if it is asked for.
    """
    result = _result(store, folder)
    if result is None:
        return
    exported, predicted = result.told[result.exported], read_predictions(store, folder)
    for trainings in (result.told, result.trainings):  # first those of which more is kept
        all_of_them = [training.task for training in trainings] == list(keys)
        for training in trainings:
            wanted = all_of_them or (training is exported and training.task in keys)
            if not wanted or store.exists(folder_of(training.task)):
                continue
            state = load(store.read_bytes(f"{folder}/{_STATE}")) if training is exported else {}
            classes = np.empty(0, dtype=np.int64)
            if trainings is result.told:
                classes = predicted.column(column_of(training.seed)).to_numpy().astype(np.int64)
            keep_trained(store, training.task, Trained(training.protocols, classes, state))


def write_predictions(
    path: Path, ids: Sequence[str], labels: Ints, told: Mapping[int, Ints]
) -> None:
    """Write what each training, by its seed, said of the test images."""
    columns = {column_of(seed): pa.array(classes, pa.int32()) for seed, classes in told.items()}
    table = {"id": pa.array(ids, pa.string()), "label": pa.array(labels, pa.int32()), **columns}
    pq.write_table(pa.table(table), path / PREDICTIONS, write_page_checksum=True)


def read_predictions(store: RunStore, folder: str) -> pa.Table:
    """Read ``predictions.parquet`` of a winner: ``id``, ``label`` and ``seed_…`` for each training.

    Classes are positions; -1 stands for an image that could not be decoded.

    Raises:
        UserError: If a column is of an extension type.
        pa.ArrowException: If it is no Parquet, or a column has other values.
    """
    name = f"{folder}/{PREDICTIONS}"
    table = open_parquet(store.read_bytes(name), store.path(name)).read()
    types = {name: pa.string() if name == "id" else pa.int32() for name in table.column_names}
    return table.cast(pa.schema(types))


def column_of(seed: int) -> str:
    """Return what the column of a training is called."""
    return f"seed_{seed}"


def _result(store: RunStore, folder: str) -> Result | None:
    """Return what a folder of ``winners/`` holds; None if it is not as it was written."""
    recorded = _recorded(store, folder)
    try:
        config: FolderConfig = store.read_json(f"{folder}/{CONFIG}")
        facts: Metadata = config["metadata"]
        if not is_as_written(config) or facts["state_sha256"] != _digest(store, folder):
            return None
        if any(store.digest(f"{folder}/{name}") != said for name, said in recorded.items()):
            return None
        read_predictions(store, folder)
        known: Mapping[str, Any] = facts
        return Result.from_dict({key: known[key] for key in _FIELDS})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
        return None


def _recorded(store: RunStore, folder: str) -> dict[str, str]:
    """Return the digests of what the run wrote into the folder of a winner, by their names."""
    steps, prefix = store.manifest(), f"{folder}/"
    known = steps["finetune"]["artifacts"] if "finetune" in steps else {}
    return {n.removeprefix(prefix): said for n, said in known.items() if n.startswith(prefix)}


def _digest(store: RunStore, folder: str) -> str | None:
    """Return the hash of the weights in a folder; None if they cannot be read."""
    try:
        return state_sha256(load(store.read_bytes(f"{folder}/{_STATE}")))
    except (OSError, SafetensorError):
        return None
