"""DPIAT between two models that are named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.config import ZooEntry, load_job
from zoo_search.store import RunStore
from zoo_search.zoo.build import build
from zoo_search.zoo.load import load_zoo

if TYPE_CHECKING:
    from zoo_search.dpiat import TransferReport

__all__ = ["transfer_by_name"]

_BARE = {"name": "transfer", "dataset": "digits"}


def transfer_by_name(source: str, target: str, out: Path, job: Path | None) -> TransferReport:
    """Fill ``target``'s weights from ``source`` and write them as safetensors.

    Args:
        source: A name of the job's zoo, else a timm name (its hub weights are loaded).
        target: A name of the job's zoo, else a timm name (randomly initialised first).
        out: File to write.
        job: Run file whose zoo the names may mean.

    Raises:
        UserError: If a name is unknown, the source's weights are missing, or nothing fits.
    """
    from safetensors.torch import save

    from zoo_search import dpiat

    config = load_job(job if job is not None else {**_BARE, "zoo": {source: {"arch": source}}})
    entries = {name: config.zoo.get(name, ZooEntry(arch=name)) for name in (source, target)}
    giver = load_zoo(config.model_copy(update={"zoo": {source: entries[source]}}))[source].module
    taker = build(entries[target], target, config.input_size, config.seed)
    report = dpiat.transfer(giver, taker)
    weights = {name: tensor.contiguous().clone() for name, tensor in taker.state_dict().items()}
    RunStore(out.absolute().parent).write_bytes(out.name, save(weights))
    return report
