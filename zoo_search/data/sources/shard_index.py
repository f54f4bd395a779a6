"""What ``zoo-search data pack`` writes beside its shards, so that nobody walks through them."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zoo_search.core.errors import Note, UserError
from zoo_search.core.json_text import read_json
from zoo_search.core.parquet import open_parquet
from zoo_search.data.sources.files import FileTree

INDEX, MANIFEST, CLASSES = "index.parquet", "pack.json", "classes.txt"

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "label": pa.int32(),
        "split": pa.string(),
        "shard": pa.string(),
        "offset": pa.int64(),
        "size": pa.int64(),
        "source": pa.string(),
    }
)
"""A row an image: its bytes are ``[offset, offset + size)`` of the shard; ``source`` is its id in
the data set that was packed."""

_KEY, _FORMAT = b"zoo_search", 1


def index_bytes(table: pa.Table, shards: Mapping[str, int], **facts: object) -> bytes:
    """Return the file of an index, a table of :data:`SCHEMA`, of shards of these sizes.

    ``facts`` are JSON-like, kept with it.
    """
    told = json.dumps({"format": _FORMAT, "shards": dict(shards), **facts})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_KEY: told}), buffer, compression="zstd")
    return buffer.getvalue()


def index_of(data: bytes, name: str) -> tuple[pa.Table, dict[str, Any]] | None:
    """Return an index and what is kept with it; None if the bytes are no index of ours.

    That is ``shards``, which are sizes by name, and the facts.

    Raises:
        UserError: If a column is of an extension type; ``name`` is what the file is called.
    """
    try:
        file = open_parquet(data, name)
        facts = read_json((file.schema_arrow.metadata or {})[_KEY])
        ours = facts["format"] == _FORMAT and file.schema_arrow.equals(SCHEMA)
        return (file.read(), dict(facts, shards=dict(facts["shards"]))) if ours else None
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError):
        return None


def find_index(tree: FileTree, shards: Mapping[str, int]) -> pa.Table | None:
    """Return the index beside some shards, if it was written for shards of these sizes.

    Raises:
        UserError: If the shards are those of a pack that is not finished.
    """
    if tree.fs.exists(tree.path(MANIFEST)):
        try:
            whole = read_json(tree.read_whole(MANIFEST))["whole"]
        except (ValueError, KeyError, TypeError):
            whole = True  # another program's file
        if not whole:
            raise UserError(
                f"dataset.path: the shards in {tree.root} are not all there: 'zoo-search data "
                "pack' has not finished. Give the same command again, it goes on from where it was."
            )
    if not tree.fs.exists(tree.path(INDEX)):
        return None
    found = index_of(tree.read_whole(INDEX), f"dataset.path: {tree.path(INDEX)}")
    if found is None:
        return None
    table, facts = found
    if facts["shards"] == dict(shards):
        return table
    told = f"{tree.path(INDEX)} was written for other shards; the headers of all are read instead"
    warnings.warn(told, Note, stacklevel=2)
    return None


def find_classes(tree: FileTree) -> tuple[str, ...] | None:
    """Return the names of the classes beside some shards, one a line; None if there are none.

    Raises:
        UserError: If a name is empty or stands there twice, or the file is no UTF-8.
    """
    if not tree.fs.exists(tree.path(CLASSES)):
        return None
    try:
        names = tuple(tree.read_whole(CLASSES).decode().rstrip("\r\n").split("\n"))
    except UnicodeDecodeError:
        names = ()
    names = tuple(name.removesuffix("\r") for name in names)
    if len(set(names)) < len(names) or not all(names):
        raise UserError(
            f"dataset.path: {tree.path(CLASSES)} must be UTF-8 text with the name of one class a "
            "line, none empty and none twice: a label is the position of its line, from 0. Write "
            "it so, or remove it: the classes are then the sorted labels."
        )
    return names
