"""DPIAT between two models that are named on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.config import JobConfig, ZooEntry, load_job
from zoo_search.errors import UserError, nearest
from zoo_search.store import RunStore
from zoo_search.zoo.build import build, is_timm
from zoo_search.zoo.load import load_zoo
from zoo_search.zoo.weights import SUFFIXES

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
        out: File to write (``.safetensors``); none that a network is read from.
        job: Run file whose zoo the names may mean.
        matching: Name of the matching operator.
        operator: Name of the transfer operator.
        picture: File for a picture of the matching (``.png``).

    Raises:
        UserError: If a name is unknown, the source's weights are missing, nothing fits, an
            operator is unknown, or a file to write has another ending or would be overwritten.
    """
    from safetensors.torch import save

    from zoo_search import dpiat

    config = load_job(job if job is not None else _BARE)
    zoo = config.zoo if job is not None else {}
    kept = [str(zoo[word].weights) for word in (source, target) if word in zoo]
    _check_output("--out", out, ".safetensors", [source, target, *kept])
    if picture is not None:
        _check_output("--png", picture, ".png", [])
    giver, _ = _network(source, zoo, config, fill=True)
    taker, entry = _network(target, zoo, config, fill=False)
    report = dpiat.transfer(giver, taker, matching, operator, seed=config.seed)
    weights = {name: tensor.contiguous().clone() for name, tensor in taker.state_dict().items()}
    _write(out, save(weights, {_KEY: json.dumps(entry)} if entry else None))
    if picture is not None:
        from zoo_search.dpiat.picture import matching_picture

        _write(picture, matching_picture(giver, taker, matching, config.seed, (source, target)))
    return report


def _check_output(option: str, path: Path, suffix: str, words: Sequence[str]) -> None:
    """Check a file to write before anything is done."""
    if path.suffix != suffix:
        raise UserError(
            f"{option} {path}: the file is written in the format {suffix[1:]}. Give it a name that "
            f"ends in {suffix}."
        )
    for word in words:
        read = Path(word.partition("@")[2] or word)
        if path.resolve() in (read.resolve(), (read / "model.safetensors").resolve()):
            raise UserError(
                f"{option} {path}: '{word}' is read from this file, and would be lost. Write to "
                "another one."
            )


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
        if own:
            entry = ZooEntry(arch=arch, weights=file) if at else _described(Path(word))
        else:
            entry = _timm_entry(word, zoo)
    if fill or own:
        alone = config.model_copy(update={"zoo": {word: entry}})
        module: nn.Module = load_zoo(alone)[word].module
    else:
        module = build(entry, word, config.input_size, config.seed)
    return module, entry.model_dump(mode="json", include={"arch", "kwargs"})


def _timm_entry(word: str, zoo: Mapping[str, ZooEntry]) -> ZooEntry:
    """The entry of a timm name, or an error that says what the word could have been."""
    import timm

    entry = ZooEntry(arch=word)
    if not is_timm(entry) or timm.is_model(word.partition(".")[0]):
        return entry
    if word.endswith(SUFFIXES) or "/" in word:
        raise UserError(
            f"There is no file or folder '{word}'. Give a file that 'zoo-search transfer' wrote, "
            "ARCH@FILE for any other weights, or the folder of a winner."
        )
    models = f", and no model of the zoo ({', '.join(zoo)})" if zoo else ""
    raise UserError(
        f"There is no network '{word}': it is no file, no name that timm {timm.__version__} knows"
        f"{models}.{nearest(word, [*zoo, *timm.list_models()])} Give a timm name, ARCH@FILE, a "
        "file that 'zoo-search transfer' wrote, the folder of a winner, or, with --job, a model of "
        "a run file's zoo."
    )


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
