"""Where a training was when it was interrupted: whole or not there, and the one before kept."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zoo_search.core.identity import fingerprint, fingerprint_as_read
from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import PROTOCOLS, ProtocolResult, plain_protocols
from zoo_search.finetune.trained import room_for
from zoo_search.training.choice import Kept, as_written
from zoo_search.training.schedules import Protocol
from zoo_search.training.snapshot import Begun, Epoch, Snapshot

FOLDER = "finetune/checkpoints"
_FACTS, _TENSORS = "begun.json", "tensors.safetensors"
_KEPT = 2
_CHOSEN = "chosen."
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskCheckpoint:
    """Where a task was when its checkpoint was written."""

    protocol: Protocol  # in work
    finished: Mapping[Protocol, ProtocolResult]  # what the protocols before gave
    snapshot: Snapshot  # of the training in work
    kept: Kept | None = None  # of the weights that are kept so far
    chosen: Mapping[str, Tensor] = field(default_factory=dict)  # these, as Choice gives them


class Checkpoints:
    """The checkpoints of one task in the run directory."""

    def __init__(self, store: RunStore, key: str) -> None:
        self._store, self._folder = store, f"{FOLDER}/{key}"

    def write(self, checkpoint: TaskCheckpoint) -> None:
        """Write a checkpoint, whole or not at all, and let go of all but the one before.

        Raises:
            UserError: If there is no room for it.
        """
        chosen = {f"{_CHOSEN}{key}": value for key, value in checkpoint.chosen.items()}
        held = {**checkpoint.snapshot.tensors, **chosen}
        data = save({key: value.contiguous() for key, value in held.items()})
        facts = {
            "protocol": checkpoint.protocol,
            "finished": plain_protocols(checkpoint.finished),
            "curve": [as_written(point) for point in checkpoint.snapshot.curve],
            "begun": asdict(checkpoint.snapshot.begun),
            "kept": None if checkpoint.kept is None else as_written(checkpoint.kept),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        names = self._names()
        number = int(names[-1]) + 1 if names else 1
        place = f"{self._folder}/{number:06d}"
        what = f"a checkpoint of {len(data) / 1e6:.0f} MB"
        with room_for(what, self._store), self._store.local_folder(place) as folder:
            (folder / _TENSORS).write_bytes(data)
            told = json.dumps({**facts, "check": fingerprint_as_read(facts)})
            (folder / _FACTS).write_text(told, encoding="utf-8")
        for name in names[: len(names) + 1 - _KEPT]:
            self._store.remove(f"{self._folder}/{name}")

    def newest(self) -> str | None:
        """Return the name of the newest checkpoint that is whole, or None; let go of the others."""
        for name in reversed(self._names()):
            try:
                self.read(name)
                return name
            except _UNREADABLE as error:
                _log.warning(
                    "%s/%s cannot be read (%s): the one before is taken", self._folder, name, error
                )
                self._store.remove(f"{self._folder}/{name}")
        return None

    def clear(self) -> None:
        """Let go of all checkpoints."""
        self._store.remove(self._folder)

    def _names(self) -> list[str]:
        return sorted(name for name in self._store.list(self._folder) if name.isdigit())

    def read(self, name: str) -> TaskCheckpoint:
        """Return a checkpoint by its name."""
        folder = f"{self._folder}/{name}"
        facts = self._store.read_json(f"{folder}/{_FACTS}")
        if facts.pop("check", None) != fingerprint(facts):
            raise ValueError("its facts are not those that were written")
        data = self._store.read_bytes(f"{folder}/{_TENSORS}")
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise ValueError("its bytes are not those that were written")
        tensors = load(data)
        chosen = [key for key in tensors if key.startswith(_CHOSEN)]
        return TaskCheckpoint(
            facts["protocol"],
            PROTOCOLS.validate_python(facts["finished"]),
            Snapshot(
                tuple(Epoch(**point) for point in facts["curve"]),
                {key: value for key, value in tensors.items() if key not in chosen},
                Begun(**facts["begun"]),
            ),
            Kept(**facts["kept"]) if facts["kept"] else None,
            {key.removeprefix(_CHOSEN): tensors[key] for key in chosen},
        )
