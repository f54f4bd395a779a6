"""DPIAT between two models that are named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo_search.config import ZooEntry, load_job
from zoo_search.zoo.load import load_zoo

if TYPE_CHECKING:
    from torch import nn

    from zoo_search.dpiat import TransferReport

__all__ = ["transfer_by_name"]


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
    from safetensors.torch import save_file

    from zoo_search import dpiat

    entries = load_job(job).zoo if job is not None else {}
    giver = _module(source, entries.get(source, ZooEntry(arch=source)))
    taker = _module(target, entries.get(target, ZooEntry(arch=target)), random=True)
    report = dpiat.transfer(giver, taker)
    aside = out.with_name(f".aside-{out.name}")
    save_file({k: v.contiguous().clone() for k, v in taker.state_dict().items()}, aside)
    aside.replace(out)
    return report


def _module(name: str, entry: ZooEntry, *, random: bool = False) -> nn.Module:
    from zoo_search.zoo.build import build

    if random:
        return build(entry, name, None, 0)
    alone: dict[str, Any] = {"name": "transfer", "zoo": {name: entry}, "dataset": "none"}
    return load_zoo(alone)[name].module
