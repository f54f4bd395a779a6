"""What ``config.json`` of an exported network holds, and whether the folder is as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # the one that pydantic reads on Python 3.11

from zoo_search.core.errors import UserError
from zoo_search.core.identity import fingerprint_as_read, sha256
from zoo_search.core.json_text import read_json
from zoo_search.core.version import __version__
from zoo_search.data.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, STATE, RECIPE = "config.json", "model.safetensors", "recipe.yaml"
FORMAT = 1
_LARGEST = 2**26  # bytes of the file; a thousand classes are some kilobytes


@with_config(ConfigDict(extra="allow"))
class Metadata(TypedDict, total=False):
    """What is told of a network: its entry in ``winners.json``, its target, what made it.

    A later version may tell more.
    """

    name: str
    role: str
    recipe: Mapping[str, Any]
    params: int
    macs: int
    scores: Mapping[str, float]
    trainings: Sequence[Mapping[str, Any]]
    folder: str | None
    exported: int
    retrained: Sequence[Mapping[str, Any]]
    init: Sequence[Mapping[str, Any]]
    of: str | None
    tuned: Mapping[str, float]
    dataset: str
    state_sha256: str
    command: str


Shape = Annotated[Sequence[int], Field(min_length=3, max_length=3)]
"""Channels, height and width of an image."""


class ParentFacts(TypedDict):
    """What builds a parent's architecture again, and where its weights came from."""

    arch: str
    kwargs: dict[str, Any]
    input_size: Shape
    family: str
    license: str | None
    weights: str
    weights_sha256: str


class Checks(TypedDict):
    """SHA-256 of what a folder held when it was written."""

    weights: str  # of the state dict (:func:`zoo_search.zoo.checkpoint.state_sha256`)
    recipe: str  # of the text
    config: str  # of the rest of this file, whatever its spaces and the order of its keys


@with_config(ConfigDict(extra="forbid"))
class FolderConfig(TypedDict):
    """The whole file.

    ``preprocess`` is the :class:`zoo_search.data.preprocess.Preprocess` of the first block's model;
    ``stitches`` holds the two cuts of each stitch, None where neighbours need none. ``checks`` is
    not there in folders of earlier versions, and where a user has taken it out to change the rest.
    """

    format: int
    zoo_search: str
    recipe: Mapping[str, Any]
    input_size: Shape
    classes: Sequence[str]
    preprocess: Mapping[str, Any]
    parents: Mapping[str, ParentFacts]
    stitches: Sequence[Mapping[str, object] | None]
    metadata: Metadata
    checks: NotRequired[Checks]


_SHAPE = TypeAdapter(FolderConfig)
_PREPROCESS = TypeAdapter(Preprocess)


def read_config(folder: Path) -> FolderConfig:
    """Read the file of a folder.

    Raises:
        UserError: If the folder is no exported network, of another format, or keys of it are
            missing or hold values of other types.
    """
    try:
        if not (folder / CONFIG).is_file():  # a pipe would never end
            raise FileNotFoundError("there is no such file")
        if (folder / CONFIG).stat().st_size > _LARGEST:
            raise ValueError("it has more than 67 MB")
        config: FolderConfig = read_json((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no mapping")
        # No number that is none, and no half of a sign, which nothing that is written could hold.
        json.dumps(config, allow_nan=False, ensure_ascii=False).encode()
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{folder} is no exported network: its {CONFIG} cannot be read ({error}). Give a "
            "folder such as runs/digits/winners/0."
        ) from None
    if config.get("format") != FORMAT:
        raise UserError(
            f"{folder} has the format {config.get('format')}, but this zoo-search "
            f"({__version__}) reads format {FORMAT}. Use the version that wrote it: "
            f"{config.get('zoo_search')}."
        )
    try:
        _SHAPE.validate_python(config, strict=True)
        preprocess_of(config)
    except ValidationError as error:
        first = error.errors()[0]
        place, reason = ".".join(map(str, first["loc"])), str(first["msg"])
        raise UserError(
            f"{folder / CONFIG} is damaged or was written by another program: '{place}': "
            f"{reason[:1].lower()}{reason[1:]}. {_COPY}"
        ) from None
    return config


def preprocess_of(config: FolderConfig) -> Preprocess:
    """Return the preprocessing of the network's images.

    Raises:
        ValidationError: If it is none.
    """
    return _PREPROCESS.validate_python(config["preprocess"])


def with_checks(config: FolderConfig, recipe: str, weights: str) -> FolderConfig:
    """Return the file's content with the hashes of it, of the recipe's text and of the weights."""
    return {
        **config,
        "checks": {"weights": weights, "recipe": sha256(recipe), "config": _rest(config)},
    }


def check(folder: Path, config: FolderConfig, recipe: str, weights: Mapping[str, Tensor]) -> None:
    """Compare what was read from a folder with what was written.

    A folder of an earlier version has a hash of its weights at most.

    Raises:
        UserError: If anything has changed: says which file.
    """
    from zoo_search.zoo.checkpoint import state_sha256

    said: Mapping[str, Any] = config.get("checks", {})
    named = said.get("weights", config["metadata"].get("state_sha256"))
    found = {
        CONFIG: is_as_written(config),
        RECIPE: said.get("recipe") in (None, sha256(recipe)),
        STATE: named in (None, state_sha256(weights)),
    }
    changed = [name for name, same in found.items() if not same]
    if changed:
        raise UserError(
            f"{' and '.join(changed)} in {folder} changed after the folder was written: a damaged "
            f"disk or copy, or somebody's hand. {_COPY} If the change is meant, take 'checks' (and "
            f"'state_sha256' for other weights) out of {CONFIG}."
        )


def is_as_written(config: FolderConfig) -> bool:
    """Say whether a file says what it said when it was written; without ``checks``, it is so."""
    said: Mapping[str, Any] = config.get("checks", {})
    return said.get("config") in (None, _rest(config))


_COPY = "Copy the folder again, or run the command that made it (see its README.md) once more."


def _rest(config: FolderConfig) -> str:
    return fingerprint_as_read({key: value for key, value in config.items() if key != "checks"})
