"""Parquet files with a column of encoded images and a column of labels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
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
    strings. Classes are the sorted labels. A column ``split``, or ``train``, ``validation`` and
    ``test`` as words in the files' paths, gives the splits
    (:func:`zoo_search.data.sources.held_out.held_out`). Ids are ``FILE:ROW``. Content hash:
    :meth:`zoo_search.data.sources.files.FileTree.content_hash` of the files.

    Raises:
        UserError: If nothing is there, a file is no Parquet, or columns or labels are missing.
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
                table = pq.ParquetFile(handle)
            except pa.ArrowException as error:
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
        labels += read[label].to_pylist()
        in_path = [split_in(name)] * read.num_rows
        split += read["split"].to_pylist() if extra else in_path
    if len(columns) > 1:
        raise UserError(
            f"dataset.path: the files in {config.path} name their image column differently: "
            f"{', '.join(sorted(columns))}. Give it one name in all of them."
        )
    check_kinds(labels, str(config.path))
    classes, positions = numbered(labels)
    keep, splits = by_split(split)
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
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _file_and_row(key: str) -> tuple[str, int]:
    name, _, row = key.rpartition(":")
    return name, int(row)


def _bytes_of(value: object) -> bytes | Unreadable:
    data = value.get("bytes") if isinstance(value, dict) else value
    return data if isinstance(data, bytes) else Unreadable("the image is null")
