"""Where a task of fine-tuning is, as a Ray Train checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo_search.finetune.recipes import Protocol
from zoo_search.finetune.snapshot import Epoch, Snapshot

__all__ = ["Begun", "latest_begun", "read_begun", "write_begun"]


@dataclass(frozen=True)
class Begun:
    """Where a task was when its checkpoint was written.

    Attributes:
        key: Of the task.
        protocol: In work.
        finished: Records of the protocols before.
        snapshot: Of the training in work.
    """

    key: str
    protocol: Protocol
    finished: Mapping[str, Any]
    snapshot: Snapshot


def write_begun(folder: Path, begun: Begun) -> None:
    """Write a checkpoint into a folder: JSON and safetensors."""
    from safetensors.torch import save_file

    facts = {
        "key": begun.key,
        "protocol": begun.protocol,
        "finished": begun.finished,
        "curve": [point.to_dict() for point in begun.snapshot.curve],
    }
    tensors = {key: value.contiguous() for key, value in begun.snapshot.tensors.items()}
    save_file(tensors, folder / "tensors.safetensors")
    (folder / "begun.json").write_text(json.dumps(facts), encoding="utf-8")


def read_begun(folder: Path) -> Begun:
    """Read what :func:`write_begun` wrote."""
    from safetensors.torch import load_file

    facts = json.loads((folder / "begun.json").read_text(encoding="utf-8"))
    curve = tuple(Epoch(**point) for point in facts["curve"])
    snapshot = Snapshot(curve, load_file(folder / "tensors.safetensors"))
    return Begun(facts["key"], facts["protocol"], facts["finished"], snapshot)


def latest_begun() -> Begun | None:
    """Return what this worker's run was doing when it was interrupted, if it was."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return read_begun(Path(folder))
