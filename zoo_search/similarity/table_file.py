"""The file of a similarity table, ``similarity.parquet``.

Columns ``model_a: string, cut_a: int32, model_b: string, cut_b: int32, value: float32``, every pair
of cuts once in each direction, the diagonal 1. The schema's metadata holds one JSON document under
the key ``zoo_search``: what the table's ``metadata`` holds, the format's version, and per model its
cuts' names and its nodes' parameters and MACs.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo_search.errors import UserError
from zoo_search.similarity.table import ModelCuts, SimilarityTable, Values

__all__ = ["FORMAT", "decode", "encode"]

FORMAT = 1
_KEY = b"zoo_search"
_COLUMNS = ("model_a", "cut_a", "model_b", "cut_b", "value")


def encode(table: SimilarityTable) -> bytes:
    """Return a table as the bytes of its file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = [len(model.cuts) for model in table.models.values()]
    n = sum(counts)
    owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    cut = np.concatenate([np.arange(c, dtype=np.int32) for c in counts] or [owner])
    names = pa.array(list(table.models), pa.string())
    columns = [
        names.take(pa.array(np.repeat(owner, n))),
        pa.array(np.repeat(cut, n)),
        names.take(pa.array(np.tile(owner, n))),
        pa.array(np.tile(cut, n)),
        pa.array(table.values.ravel()),
    ]
    header = {**table.metadata, "format": FORMAT, "models": _models_to_json(table.models)}
    rows = pa.table(columns, names=list(_COLUMNS))
    rows = rows.replace_schema_metadata({_KEY: json.dumps(header).encode()})
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def decode(data: bytes, name: str) -> SimilarityTable:
    """Read a table from the bytes of its file; ``name`` is what errors call it.

    Raises:
        UserError: If the bytes are broken or no similarity table of this format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise _broken(name, f"it is no readable Parquet file ({error})") from None
    missing = [column for column in _COLUMNS if column not in rows.column_names]
    raw = (rows.schema.metadata or {}).get(_KEY)
    if missing or raw is None:
        lacks = f"the columns {', '.join(missing)}" if missing else "the metadata 'zoo_search'"
        raise _broken(name, f"it lacks {lacks}, so it was not written by this program")
    try:
        header = dict(json.loads(raw))
        if header.pop("format", None) != FORMAT:
            raise _broken(name, f"its format is not {FORMAT}, the one this version reads")
        models = _models_from_json(header.pop("models"))
        return SimilarityTable(models, _dense(rows, models, name), header)
    except (ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise _broken(name, f"its metadata and its rows do not fit ({error})") from None


def _models_to_json(models: Mapping[str, ModelCuts]) -> dict[str, dict[str, list[Any]]]:
    return {
        name: {"cuts": model.cuts, "params": model.params, "macs": model.macs}
        for name, model in models.items()
    }


def _models_from_json(models: Any) -> dict[str, ModelCuts]:
    return {
        str(name): ModelCuts(
            [str(cut) for cut in model["cuts"]],
            [int(count) for count in model["params"]],
            [int(count) for count in model["macs"]],
        )
        for name, model in models.items()
    }


def _dense(table: Any, models: Mapping[str, ModelCuts], name: str) -> Values:
    """Return the rows as a matrix, whatever their order; every pair must be there once."""
    first = dict(zip(models, _starts(models), strict=True))
    n = sum(len(model.cuts) for model in models.values())
    place = []
    for side in ("a", "b"):
        words = table[f"model_{side}"].combine_chunks().dictionary_encode()
        known = words.dictionary.to_pylist()
        strange = [word for word in known if word not in models]
        if strange or words.null_count:
            raise _broken(name, f"its rows name the model {(strange or [None])[0]!r}, unlisted")
        offset = np.array([first[word] for word in known], dtype=np.int64)
        length = np.array([len(models[word].cuts) for word in known], dtype=np.int64)
        which = words.indices.to_numpy()
        cut = table[f"cut_{side}"].to_numpy()
        if np.any((cut < 0) | (cut >= length[which])):
            raise _broken(name, "its rows name a cut that its model does not have")
        place.append(offset[which] + cut)
    flat = place[0] * n + place[1]
    if len(flat) != n * n or len(np.unique(flat)) != n * n:
        raise _broken(name, f"it has {len(flat)} rows where {n} cuts need {n * n} distinct ones")
    values = np.empty(n * n, dtype=np.float32)
    values[flat] = table["value"].to_numpy()
    if not np.isfinite(values).all():
        raise _broken(name, "it holds a value that is no finite number")
    return values.reshape(n, n)


def _starts(models: Mapping[str, ModelCuts]) -> list[int]:
    counts = [len(model.cuts) for model in models.values()]
    return [stop - count for stop, count in zip(itertools.accumulate(counts), counts, strict=True)]


def _broken(name: str, why: str) -> UserError:
    return UserError(
        f"{name} is no similarity table that can be used: {why}. "
        "`zoo-search similarity JOB.yaml` writes one."
    )
