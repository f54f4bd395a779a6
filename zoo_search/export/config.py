"""What ``config.json`` of an exported network holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from zoo_search.core.errors import UserError
from zoo_search.core.version import __version__

CONFIG = "config.json"
FORMAT = 1


class Metadata(TypedDict, total=False):
    """What is told of a network: its entry in ``winners.json``, its target, what made it."""

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
    dataset: str
    state_sha256: str
    command: str


class ParentFacts(TypedDict):
    """What builds a parent's architecture again, and where its weights came from."""

    arch: str
    kwargs: dict[str, Any]
    input_size: Sequence[int]
    family: str
    license: str | None
    weights: str
    weights_sha256: str


class FolderConfig(TypedDict):
    """The whole file.

    ``preprocess`` is the :class:`zoo_search.data.preprocess.Preprocess` of the first block's model;
    ``stitches`` holds the two cuts of each stitch, None where neighbours need none.
    """

    format: int
    zoo_search: str
    recipe: Mapping[str, Any]
    input_size: Sequence[int]
    classes: Sequence[str]
    preprocess: Mapping[str, Any]
    parents: Mapping[str, ParentFacts]
    stitches: Sequence[Mapping[str, object] | None]
    metadata: Metadata


def read_config(folder: Path) -> FolderConfig:
    """Read the file of a folder.

    Raises:
        UserError: If the folder is no exported network, or of another format.
    """
    try:
        if not (folder / CONFIG).is_file():  # a pipe would never end
            raise FileNotFoundError("there is no such file")
        config: FolderConfig = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no mapping")
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
    return config
