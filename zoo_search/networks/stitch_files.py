"""Fitted stitches in the run directory: every worker, and every later run, finds them there.

A stitch depends on its two models, on the images and on how they are read; all of that is in the
name of its file, so nothing has to be thrown away when a model joins or leaves. Each file holds the
hash of its tensors; one that is damaged counts as none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zoo_search.core.identity import fingerprint
from zoo_search.core.json_text import read_json
from zoo_search.core.store import RunStore
from zoo_search.networks.fitter import Joint
from zoo_search.zoo.checkpoint import state_sha256
from zoo_search.zoo.models import ZooModel

FOLDER = "stitches"
_FORMAT = 2  # of the way stitches are fitted
_CHECK = "sha256"
_OURS = re.compile(r"[0-9a-f]{32}\.safetensors")


@dataclass(frozen=True)
class StitchFiles:
    """Stitches as ``stitches/<hash>.safetensors``; half-written ones are never found."""

    store: RunStore
    models: Mapping[str, str]  # of each, a hash of its weights and of how it takes its images
    images: str  # a hash of those that stitches are fitted on

    def get(self, joint: Joint) -> tuple[dict[str, Tensor], float] | None:
        """Return the tensors of a stitch and the R² of its fit; None if it is not there, whole."""
        path = self._path(joint)
        tensors = _read(self.store.read_bytes(path)) if self.store.exists(path) else None
        return None if tensors is None else (tensors, float(tensors.pop("r2")))

    def sweep(self) -> int:
        """Remove the files that are damaged, so that they are fitted anew; return how many."""
        ours = [name for name in self.store.list(FOLDER) if _OURS.fullmatch(name)]
        names = [f"{FOLDER}/{name}" for name in ours]
        damaged = [name for name in names if _read(self.store.read_bytes(name)) is None]
        for name in damaged:
            self.store.remove(name)
        return len(damaged)

    def put(self, joint: Joint, tensors: dict[str, Tensor], r2: float) -> None:
        """Keep a stitch."""
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        whole["r2"] = torch.tensor(r2, dtype=torch.float64)
        self.store.write_bytes(self._path(joint), save(whole, {_CHECK: state_sha256(whole)}))

    def _path(self, joint: Joint) -> str:
        made_from = {
            "format": _FORMAT,
            "before": [self.models[joint.before], joint.out],
            "after": [self.models[joint.after], joint.into],
            "images": self.images,
        }
        return f"{FOLDER}/{fingerprint(made_from)[:32]}.safetensors"


def _read(data: bytes) -> dict[str, Tensor] | None:
    """Return the tensors of a file; None if it is cut short or not what was written.

    Versions that wrote no hash are believed.
    """
    try:
        tensors = load(data)
        # The header is JSON behind its length, a little-endian number of 8 bytes.
        header = read_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        said = header.get("__metadata__", {}).get(_CHECK)
        if "r2" not in tensors or said not in (None, state_sha256(tensors)):
            return None
    except (SafetensorError, ValueError, AttributeError):
        return None
    return tensors


def stitch_files(
    store: RunStore, zoo: Mapping[str, ZooModel], images: str, fit_images: int
) -> StitchFiles:
    """Return the stitches of a zoo that are fitted on the first of the images of a fingerprint."""
    models = {
        name: fingerprint([model.identity, [cut.name for cut in model.graph.cuts]])
        for name, model in zoo.items()
    }
    return StitchFiles(store, models, fingerprint([images, fit_images]))
