"""Gram files: the vectors of one model's cuts on every batch, ``grams/<model>.parquet``.

Columns ``batch: int32, cut: int32, part: int32, norm: float64, samples: int32, ids: string,
gram: large_binary``, one row group a batch. ``gram`` holds float32, little endian: the unit vector
of :class:`~zoo_search.similarity.estimators.Embedding`; ``ids`` is the hash of the batch's sample
ids. The schema's metadata holds, under the key ``zoo_search``, what made the file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from zoo_search.errors import UserError
from zoo_search.similarity.estimators import Embedding, Metric
from zoo_search.store import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo_search.store import RunStore

__all__ = ["FORMAT", "Reader", "Writer", "is_current", "path_of", "to_arrow"]

FORMAT = 1
_KEY = b"zoo_search"


def path_of(model: str) -> str:
    """Return the name of a model's Gram file in the run directory."""
    return f"grams/{quote(model, safe='')}.parquet"


def is_current(store: RunStore, model: str, made_from: str) -> bool:
    """Say whether a model's Gram file is there, readable, and was made from exactly this."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not store.exists(path_of(model)):
        return False
    try:
        with store.open(path_of(model), "rb") as stream:
            metadata = pq.read_schema(stream).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return bool(json.loads(metadata.get(_KEY, b"{}")).get("made_from") == made_from)


def to_arrow(batch: int, ids: Sequence[str], embedded: Sequence[Embedding]) -> pa.Table:
    """Return the rows of one batch of these samples: one for each cut and part."""
    import pyarrow as pa

    rows = [
        (cut, part, norm, row.cpu().numpy().astype("<f4").tobytes())
        for cut, e in enumerate(embedded)
        for part, (row, norm) in enumerate(zip(e.rows, e.norms.tolist(), strict=True))
    ]
    cuts, parts, norms, grams = zip(*rows, strict=True)
    n = len(rows)
    facts = [len(ids)] * n, [fingerprint(list(ids))] * n
    columns = [[batch] * n, cuts, parts, norms, *facts, grams]
    return pa.table(dict(zip(_schema().names, columns, strict=True)), schema=_schema())


class Writer:
    """Writes a model's Gram file batch by batch; it appears whole at the end, or not at all."""

    def __init__(self, store: RunStore, model: str, made_from: str, facts: Mapping[str, Any]):
        import pyarrow.parquet as pq

        self._stack = contextlib.ExitStack()
        stream = self._stack.enter_context(store.open(path_of(model), "wb"))
        header = json.dumps({"made_from": made_from, **facts}).encode()
        schema = _schema().with_metadata({_KEY: header})
        # Unit vectors are noise to a compressor; dictionaries serve the ids only.
        self._file = self._stack.enter_context(
            pq.ParquetWriter(stream, schema, compression="none", use_dictionary=["ids"])
        )
        self._schema = schema

    def write(self, rows: pa.Table) -> None:
        """Add the rows of one batch as a row group of their own."""
        self._file.write_table(rows.cast(self._schema), row_group_size=len(rows))

    def close(self) -> None:
        """Put the file in place."""
        self._stack.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, value, trace)


class Reader:
    """Reads the Gram files of several models, one batch of all of them at a time.

    Attributes:
        samples: Images in the batches that were read so far.
    """

    def __init__(self, store: RunStore, models: Sequence[str], metric: Metric) -> None:
        self._store, self._models, self._metric = store, list(models), metric
        self.samples = 0

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``[cuts of all models, parts, v]`` and norms ``[cuts, parts]`` a batch.

        Raises:
            UserError: If two models' files do not hold the same batches of the same samples.
        """
        import pyarrow.parquet as pq

        with contextlib.ExitStack() as stack:
            files = {
                model: pq.ParquetFile(stack.enter_context(self._store.open(path_of(model), "rb")))
                for model in self._models
            }
            places = {model: _batch_places(file) for model, file in files.items()}
            first = self._models[0]
            for batch in sorted(places[first]):
                tables = []
                for model, file in files.items():
                    place = places[model].get(batch)
                    if place is None or len(places[model]) != len(places[first]):
                        raise _differ(first, model, f"{len(places[first])} batches", "others")
                    tables.append(file.read_row_group(place))
                yield self._tensors(batch, tables)

    def _tensors(self, batch: int, tables: Sequence[pa.Table]) -> tuple[Tensor, Tensor]:
        """Return one batch of all models as tensors, after a look at its sample ids."""
        hashes = [table["ids"][0].as_py() for table in tables]
        for model, ids in zip(self._models, hashes, strict=True):
            if ids != hashes[0]:
                what = f"batch {batch} with the samples "
                raise _differ(self._models[0], model, what + hashes[0][:12], what + ids[:12])
        self.samples += tables[0]["samples"][0].as_py()
        rows, norms = [], []
        for table in tables:
            grams = [np.frombuffer(gram.as_buffer(), "<f4") for gram in table["gram"]]
            rows.append(np.stack(grams))
            norms.append(table["norm"].to_numpy())
        parts = self._metric.parts
        flat = torch.from_numpy(np.concatenate(rows))
        lengths = torch.from_numpy(np.concatenate(norms))
        return flat.view(-1, parts, flat.shape[1]), lengths.view(-1, parts)


def _batch_places(file: Any) -> dict[int, int]:
    """Return for each batch the row group that holds it."""
    statistics = (
        file.metadata.row_group(place).column(0).statistics
        for place in range(file.metadata.num_row_groups)
    )
    return {int(numbers.min): place for place, numbers in enumerate(statistics)}


def _differ(a: str, b: str, in_a: str, in_b: str) -> UserError:
    return UserError(
        f"The Gram matrices of '{a}' and '{b}' do not belong together: {path_of(a)} holds {in_a}, "
        f"{path_of(b)} holds {in_b}. Images may have changed or become readable in between. "
        f"Remove the folder grams/ of the run directory and run the step again."
    )


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("batch", pa.int32()),
            ("cut", pa.int32()),
            ("part", pa.int32()),
            ("norm", pa.float64()),
            ("samples", pa.int32()),
            ("ids", pa.string()),
            ("gram", pa.large_binary()),
        ]
    )
