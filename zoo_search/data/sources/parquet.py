"""Parquet files with a column of encoded images and a column of labels.

Each file is looked at where it is read, on the workers as well, since it may be somebody else's
(:mod:`zoo_search.core.parquet`), and its values are cast before they become Python's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.core.parquet import open_parquet
from zoo_search.data.decode import Raw
from zoo_search.data.sources.files import FileTree, open_files
from zoo_search.data.sources.held_out import by_split, split_in
from zoo_search.data.sources.listing import (
    Listing,
    Reader,
    Unreadable,
    check_kinds,
    chunks,
    numbered,
)

IMAGE_COLUMNS = ("image", "img", "image_bytes", "bytes", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "class", "target", "cls")
_BATCH = 64  # rows decoded from Parquet at once


class ParquetReader(Reader):
    """Reads images by ``FILE:ROW``, one row group after the other, 64 rows at a time."""

    def __init__(self, tree: FileTree, column: str, starts: dict[str, list[int]]) -> None:
        self.tree, self.column, self.starts = tree, column, starts
        """First row of each row group, by file."""

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the image bytes of each id, ordered by file and row group."""
        for (name, group), wanted in self._by_row_group(ids).items():
            row = self.starts[name][group]
            with self.tree.open(name) as handle:
                table = open_parquet(handle, f"dataset.path: {name}")
                for batch in table.iter_batches(_BATCH, row_groups=[group], columns=[self.column]):
                    images = _encoded(batch.column(0), name)
                    for i in range(batch.num_rows):
                        if row + i in wanted:
                            data = images[i].as_py()
                            yield (
                                wanted[row + i],
                                Unreadable("the image is null") if data is None else data,
                            )
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
    strings. Classes are the sorted labels. A column ``split``, or the usual words in the files'
    paths, gives the splits
    (:mod:`zoo_search.data.sources.held_out`). Ids are ``FILE:ROW``. Content hash:
    :meth:`zoo_search.data.sources.files.FileTree.content_hash` of the files.

    Raises:
        UserError: If nothing is there, a file is no Parquet, columns or labels are missing, or a
            column is of an extension type.
    """
    tree, found = open_files(config, ".parquet")
    ids: list[str] = []
    labels: list[int | str] = []
    split: list[str | None] = []
    starts: dict[str, list[int]] = {}
    columns: set[str] = set()
    for name in found:
        with tree.open(name) as handle:
            try:
                table = open_parquet(handle, f"dataset.path: {name}")
            except (pa.ArrowException, OSError) as error:
                raise UserError(
                    f"dataset.path: {name} is not a Parquet file ({error}). Remove it or write it "
                    "again."
                ) from None
            column, label = _columns(table.schema_arrow, name)
            columns.add(column)
            extra = ["split"] if "split" in table.schema_arrow.names else []
            read = table.read(columns=[label, *extra])
            sizes = [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]
        starts[name] = [sum(sizes[:g]) for g in range(len(sizes))]
        ids += [f"{name}:{row:08d}" for row in range(read.num_rows)]
        labels += _plain(read[label], label, name)
        if extra:
            told = _plain(read["split"], "split", name)
            split += [None if word is None else str(word) for word in told]
        else:
            split += [split_in(name, config.splits)] * read.num_rows
    if len(columns) > 1:
        raise UserError(
            f"dataset.path: the files in {config.path} name their image column differently: "
            f"{', '.join(sorted(columns))}. Give it one name in all of them."
        )
    check_kinds(labels, str(config.path))
    classes, positions = numbered(labels)
    keep, splits = by_split(split, config.splits)
    return Listing(
        classes=classes,
        ids=[ids[i] for i in keep],
        labels=[positions[i] for i in keep],
        splits=splits,
        content=tree.content_hash(found),
        reader=ParquetReader(tree, column, starts),
    )


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
        at = kind.get_field_index("bytes")
        return bool(at >= 0 and _is_binary(kind.field(at).type))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _encoded(images: pa.Array, name: str) -> pa.Array:
    """Return an image column as ``large_binary``, of structs their ``bytes``.

    Raises:
        UserError: If it is neither: the file is not the one that was listed.
    """
    if not _is_binary(images.type):
        raise UserError(
            f"dataset.path: {name} was replaced while it was in use: its images are of the type "
            f"{images.type} now. Run the command again."
        )
    while pa.types.is_struct(images.type):
        images = pa.compute.struct_field(images, "bytes")
    return images.cast(pa.large_binary())


def _plain(column: pa.ChunkedArray, called: str, name: str) -> list[Any]:
    """Return the labels or splits of a column: integers or strings, or None for what is missing.

    Raises:
        UserError: If it holds anything else.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_integer(kind):
        return list(column.cast(pa.int64()).to_pylist())
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return list(column.cast(pa.large_string()).to_pylist())
    raise UserError(
        f"dataset.path: the column '{called}' of {name} holds values of the type {kind}. Allowed "
        "are integers and strings. Write it again."
    )


def _file_and_row(key: str) -> tuple[str, int]:
    name, _, row = key.rpartition(":")
    return name, int(row)
