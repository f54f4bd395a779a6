"""DPIAT between two models that are named on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.config import JobConfig, ZooEntry, load_job
from zoo_search.errors import UserError
from zoo_search.store import RunStore
from zoo_search.zoo.build import build
from zoo_search.zoo.load import load_zoo

if TYPE_CHECKING:
    from torch import nn

    from zoo_search.dpiat import TransferReport

__all__ = ["transfer_by_name"]

_BARE = {"name": "transfer", "dataset": "digits", "zoo": {"none": {"arch": "none"}}}
_KEY = "zoo_search"  # of the header of a weights file: the zoo entry, as JSON


def transfer_by_name(
    source: str,
    target: str,
    out: Path,
    job: Path | None = None,
    matching: str = "dp",
    operator: str = "clip",
    picture: Path | None = None,
) -> TransferReport:
    """Fill ``target``'s weights from ``source`` and write them as safetensors.

    The file remembers its architecture, so that it can be the source or target of another
    transfer.

    Args:
        source: A name of the job's zoo; the folder of a winner; a file that this function wrote;
            ``ARCH@FILE``, a timm name and its weights; else a timm name (its hub weights).
        target: The same. Models of the zoo and timm names start from random values, networks from
            files and folders from their own; they stay where nothing is copied.
        out: File to write.
        job: Run file whose zoo the names may mean.
        matching: Name of the matching operator.
        operator: Name of the transfer operator.
        picture: PNG file for a picture of the matching.

    Raises:
        UserError: If a name is unknown, the source's weights are missing, nothing fits, or an
            operator is unknown.
    """
    from safetensors.torch import save

    from zoo_search import dpiat

    config = load_job(job if job is not None else _BARE)
    zoo = config.zoo if job is not None else {}
    giver, _ = _network(source, zoo, config, fill=True)
    taker, entry = _network(target, zoo, config, fill=False)
    report = dpiat.transfer(giver, taker, matching, operator, seed=config.seed)
    weights = {name: tensor.contiguous().clone() for name, tensor in taker.state_dict().items()}
    _write(out, save(weights, {_KEY: json.dumps(entry)} if entry else None))
    if picture is not None:
        from zoo_search.dpiat.picture import matching_picture

        _write(picture, matching_picture(giver, taker, matching, config.seed, (source, target)))
    return report


def _network(
    word: str, zoo: Mapping[str, ZooEntry], config: JobConfig, *, fill: bool
) -> tuple[nn.Module, dict[str, object] | None]:
    """The network that a word of the command line means, and its entry in the output's header."""
    entry, own = zoo.get(word), False
    if entry is None and (Path(word) / "config.json").is_file():
        from zoo_search.export import load

        return load(word), None
    if entry is None:
        arch, at, file = word.partition("@")
        own = bool(at) or Path(word).is_file()
        if at:
            entry = ZooEntry(arch=arch, weights=file)
        else:
            entry = _described(Path(word)) if own else ZooEntry(arch=word)
    if fill or own:
        alone = config.model_copy(update={"zoo": {word: entry}})
        module: nn.Module = load_zoo(alone)[word].module
    else:
        module = build(entry, word, config.input_size, config.seed)
    return module, entry.model_dump(mode="json", include={"arch", "kwargs"})


def _described(path: Path) -> ZooEntry:
    """The entry in the header of a weights file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error}).") from error
    if header is None:
        raise UserError(
            f"{path} does not say which architecture its weights belong to. Write the timm name "
            f"before it: ARCH@{path}."
        )
    return ZooEntry(**json.loads(header), weights=str(path))


def _write(path: Path, data: bytes) -> None:
    RunStore(path.absolute().parent).write_bytes(path.name, data)
