"""Parquet files with a column of encoded images and a column of labels."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zoo_search.config import DatasetConfig
from zoo_search.data.decode import Raw
from zoo_search.data.sources import files
from zoo_search.data.sources.listing import Listing, Unreadable, chunks
from zoo_search.errors import UserError

__all__ = ["IMAGE_COLUMNS", "LABEL_COLUMNS", "ParquetReader", "parquet"]

IMAGE_COLUMNS = ("image", "img", "image_bytes", "bytes", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "class", "target", "cls")
_BATCH = 64  # rows decoded from Parquet at once
_SPLIT = re.compile(r"(?:^|[/_.-])(train|test|validation|valid|val)(?:[/_.-]|$)")


class ParquetReader:
    """Reads images by ``FILE:ROW``, one row group after the other, 64 rows at a time."""

    in_memory = False

    def __init__(self, fs: Any, root: str, column: str, starts: dict[str, list[int]]) -> None:
        self.fs, self.root, self.column = fs, root, column
        self.starts = starts
        """First row of each row group, by file."""

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the image bytes of each id, ordered by file and row group."""
        for (name, group), wanted in self._by_row_group(ids).items():
            row = self.starts[name][group]
            with self.fs.open(f"{self.root}/{name}", "rb") as handle:
                table = pq.ParquetFile(handle)
                for batch in table.iter_batches(_BATCH, row_groups=[group], columns=[self.column]):
                    images = batch.column(0)
                    for i in range(batch.num_rows):
                        if row + i in wanted:
                            yield wanted[row + i], _bytes_of(images[i].as_py())
                    row += batch.num_rows

    def groups(self, ids: Sequence[str]) -> list[list[str]]:
        """One list a row group, so that no row group is read twice; small ones are joined."""
        joined: list[list[str]] = []
        step = max(len(part) for part in chunks(ids)) if ids else 1
        for wanted in self._by_row_group(ids).values():
            if joined and len(joined[-1]) + len(wanted) <= step:
                joined[-1] += wanted.values()
            else:
                joined.append(list(wanted.values()))
        return joined

    def _by_row_group(self, ids: Sequence[str]) -> dict[tuple[str, int], dict[int, str]]:
        """Return row to id for each (file, row group) that the ids touch, in order."""
        found: dict[tuple[str, int], dict[int, str]] = {}
        for name, row, key in sorted((*_file_and_row(key), key) for key in ids):
            group = bisect_right(self.starts[name], row) - 1
            found.setdefault((name, group), {})[row] = key
        return found


def parquet(config: DatasetConfig) -> Listing:
    """List a Parquet file, or every ``.parquet`` file below a folder.

    The image column is one of :data:`IMAGE_COLUMNS` (encoded bytes, or a struct with ``bytes``),
    else the only binary one; the label column is one of :data:`LABEL_COLUMNS`, of integers or
    strings. Classes are the sorted labels. A column ``split``, or ``train`` and ``test`` or
    ``validation`` as words in the files' paths, gives the splits. Ids are ``FILE:ROW``. Content
    hash: :func:`zoo_search.data.sources.files.content_hash` of the files.

    Raises:
        UserError: If nothing is there, a file is no Parquet, or columns or labels are missing.
    """
    fs, root = files.open_root(files.require_path(config))
    root, found = _files(fs, root, str(config.path))
    ids: list[str] = []
    labels: list[Any] = []
    split: list[str | None] = []
    starts: dict[str, list[int]] = {}
    columns: set[str] = set()
    for name in found:
        with fs.open(f"{root}/{name}", "rb") as handle:
            table = _open(handle, name)
            column, label = _columns(table.schema_arrow, name)
            columns.add(column)
            extra = ["split"] if "split" in table.schema_arrow.names else []
            read = table.read(columns=[label, *extra])
            sizes = [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]
        starts[name] = [sum(sizes[:g]) for g in range(len(sizes))]
        ids += [f"{name}:{row:08d}" for row in range(read.num_rows)]
        labels += read[label].to_pylist()
        split += read["split"].to_pylist() if extra else [_split_of(name)] * read.num_rows
    if len(columns) > 1:
        raise UserError(
            f"dataset.path: the files in {config.path} name their image column differently: "
            f"{', '.join(sorted(columns))}. Give it one name in all of them."
        )
    classes = _classes(labels, str(config.path))
    position = {value: i for i, value in enumerate(classes)}
    keep, splits = _splits(split)
    return Listing(
        classes=tuple(str(value) for value in classes),
        ids=[ids[i] for i in keep],
        labels=[position[labels[i]] for i in keep],
        splits=splits,
        content=files.content_hash(fs, root, found),
        reader=ParquetReader(fs, root, column, starts),
    )


def _files(fs: Any, root: str, shown: str) -> tuple[str, dict[str, int]]:
    """Return the folder and the size of each Parquet file in it, by relative path."""
    if fs.isfile(root):
        folder, _, name = root.rpartition("/")
        return folder, {name: int(fs.size(root))}
    found = {n: size for n, size in files.sizes(fs, root).items() if n.endswith(".parquet")}
    if not found:
        raise UserError(f"dataset.path: there is no .parquet file in {shown}.")
    return root, found


def _open(handle: Any, name: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(handle)
    except pa.ArrowException as error:
        raise UserError(
            f"dataset.path: {name} is not a Parquet file ({error}). Remove it or write it again."
        ) from None


def _columns(schema: pa.Schema, name: str) -> tuple[str, str]:
    """Return the names of the image and the label column."""
    binary = [field.name for field in schema if _is_binary(field.type)]
    image = [c for c in IMAGE_COLUMNS if c in binary] or (binary if len(binary) == 1 else [])
    label = [c for c in LABEL_COLUMNS if c in schema.names]
    if image and label:
        return image[0], label[0]
    missing = "image" if not image else "label"
    allowed = IMAGE_COLUMNS if not image else LABEL_COLUMNS
    raise UserError(
        f"dataset.path: {name} has no {missing} column; its columns are "
        f"{', '.join(schema.names)}. Name one of them {', '.join(allowed)}"
        + (" and store encoded bytes (PNG, JPEG) in it." if not image else ".")
    )


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _classes(labels: list[Any], shown: str) -> list[Any]:
    kinds = {type(value) for value in labels}
    if kinds not in ({int}, {str}):
        named = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise UserError(
            f"dataset.path: the labels in {shown} must be all integers or all strings, without "
            f"gaps; found: {named}."
        )
    return sorted(set(labels))


def _splits(split: list[str | None]) -> tuple[list[int], list[str] | None]:
    """Return the rows to keep and their splits; None where the files hold no two splits."""
    held_out = next((name for name in files.HELD_OUT if name in split), None)
    if "train" not in split or held_out is None:
        return list(range(len(split))), None
    keep = [i for i, name in enumerate(split) if name in ("train", held_out)]
    return keep, ["train" if split[i] == "train" else "test" for i in keep]


def _split_of(name: str) -> str | None:
    match = _SPLIT.search(name)
    return match.group(1) if match else None


def _file_and_row(key: str) -> tuple[str, int]:
    name, _, row = key.rpartition(":")
    return name, int(row)


def _bytes_of(value: Any) -> bytes | Unreadable:
    data = value.get("bytes") if isinstance(value, dict) else value
    return data if isinstance(data, bytes) else Unreadable("the image is null")
