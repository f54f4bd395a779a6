"""Gram parts: the vectors of one model's cuts on one batch, ``grams/<model>/<batch>.parquet``.

Columns ``cut: int32, part: int32, norm: float64, gram: fixed_size_binary``. ``gram`` holds the
vector of :class:`~zoo_search.similarity.estimators.Embedding`, little endian: ``float16`` as
:func:`~zoo_search.similarity.precision.quantise` gives it, or the ``float32`` unit vector itself.
The schema's metadata holds, under the key ``zoo_search``, the fields of :class:`Header`: the hash
of what made the part, the hash of its sample ids, and its sizes. A part that cannot be read, or is
of another format, is no part: it is made again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from zoo_search.errors import UserError
from zoo_search.similarity.estimators import Embedding
from zoo_search.similarity.precision import dequantise, quantise
from zoo_search.store import fingerprint

if TYPE_CHECKING:
    from zoo_search.store import RunStore

__all__ = [
    "DTYPES",
    "FOLDER",
    "FORMAT",
    "Header",
    "check_same",
    "clean",
    "digest",
    "encode",
    "find",
    "path_of",
    "read",
]

FOLDER = "grams"
FORMAT = 2
DTYPES = {"float16": 2, "float32": 4}
"""Bytes of an entry, by the name of the stored precision."""
_KEY = b"zoo_search"
_READERS = 16


@dataclass(frozen=True)
class Header:
    """What a part says of itself.

    Attributes:
        model: Name of the model.
        batch: Index of the batch.
        made_from: Hash of weights, images, batches and settings.
        samples: Images in the batch.
        ids: Hash of their sample ids, in order.
        cuts: Cuts of the model.
        parts: Vectors a cut.
        width: Length of a vector.
        dtype: ``float16`` or ``float32``.
        format: Version of this layout.
    """

    model: str
    batch: int
    made_from: str
    samples: int
    ids: str
    cuts: int
    parts: int
    width: int
    dtype: str
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """Bytes of the vectors, once they are float32 in memory."""
        return self.cuts * self.parts * self.width * 4


def path_of(model: str, batch: int) -> str:
    """Return the name of a part in the run directory."""
    return f"{_folder(model)}/{batch:06d}.parquet"


def encode(
    model: str,
    made_from: str,
    batch: int,
    ids: Sequence[str],
    embedded: Sequence[Embedding],
    dtype: str,
) -> tuple[Header, bytes]:
    """Return a part as the bytes of its file, with its header.

    Args:
        model: Name of the model.
        made_from: Hash of what made it.
        batch: Index of the batch.
        ids: Its samples.
        embedded: One embedding a cut.
        dtype: Stored precision, one of :data:`DTYPES`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = torch.stack([e.rows for e in embedded])  # [cuts, parts, v]
    norms = torch.stack([e.norms for e in embedded])
    cuts, parts, width = rows.shape
    header = Header(
        model, batch, made_from, len(ids), fingerprint(list(ids)), cuts, parts, width, dtype
    )
    stored = quantise(rows) if dtype == "float16" else rows
    flat = stored.cpu().contiguous().numpy().astype(f"<f{DTYPES[dtype]}", copy=False)
    kind = pa.binary(width * DTYPES[dtype])
    gram = pa.Array.from_buffers(kind, cuts * parts, [None, pa.py_buffer(flat)])
    columns = {
        "cut": pa.array(np.repeat(np.arange(cuts, dtype=np.int32), parts)),
        "part": pa.array(np.tile(np.arange(parts, dtype=np.int32), cuts)),
        "norm": pa.array(norms.cpu().double().flatten().numpy()),
        "gram": gram,
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(asdict(header)).encode()})
    sink = io.BytesIO()
    # Unit vectors are noise to a compressor and to a dictionary.
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    return header, sink.getvalue()


def read(store: RunStore, header: Header) -> tuple[Tensor, Tensor]:
    """Return the unit vectors ``[cuts, parts, v]`` float32 and norms ``[cuts, parts]`` of a part.

    Raises:
        UserError: If the part cannot be read, or is not the one that the header describes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = path_of(header.model, header.batch)
    try:
        table = pq.read_table(pa.BufferReader(store.read_bytes(name)))
        found = _header(table.schema.metadata)
        gram = table["gram"].combine_chunks()
        norm = table["norm"].to_numpy()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{store.path(name)} cannot be read ({error}). Remove it and run the step again: only "
            "this batch of this model is made anew."
        ) from None
    if found != header:
        raise UserError(
            f"{store.path(name)} was replaced while it was in use; another run may be writing into "
            f"{store.url}. Let one run at a time use a run directory, then run this one again."
        )
    # The column's buffer, from its offset on: no copy, and read-only until dequantised.
    values = np.frombuffer(gram.buffers()[1], f"<f{DTYPES[header.dtype]}")
    values = values[gram.offset * header.width :][: header.cuts * header.parts * header.width]
    flat = torch.from_numpy(values.copy()).view(header.cuts, header.parts, header.width)
    rows = dequantise(flat) if header.dtype == "float16" else flat
    return rows, torch.from_numpy(norm.copy()).view(header.cuts, header.parts)


def find(store: RunStore, models: Mapping[str, str], batches: int) -> dict[str, dict[int, Header]]:
    """Return the headers of the parts that can be used, by model and batch.

    Args:
        store: The run directory.
        models: Name to the hash that a part must be made from.
        batches: Number of batches; a part of a batch beyond is none.
    """
    names = [
        (model, int(stem))
        for model in models
        for stem, _, kind in (name.partition(".") for name in store.list(_folder(model)))
        if kind == "parquet" and stem.isdecimal() and int(stem) < batches
    ]
    with ThreadPoolExecutor(_READERS if not store.is_local else 1) as pool:
        headers = pool.map(lambda key: _header_of(store, *key), names)
    found: dict[str, dict[int, Header]] = {model: {} for model in models}
    for (model, batch), header in zip(names, headers, strict=True):
        expected = (model, batch, models[model])
        if header and (header.model, header.batch, header.made_from) == expected:
            found[model][batch] = header
    return found


def check_same(headers: Mapping[str, Mapping[int, Header]]) -> None:
    """Check that all models' parts hold the same batches of the same samples.

    Raises:
        UserError: If not: names both sides.
    """
    first, others = next(iter(headers)), list(headers)[1:]
    for model in others:
        for batch in sorted({*headers[first], *headers[model]}):
            a, b = headers[first].get(batch), headers[model].get(batch)
            if a is None or b is None or (a.ids, a.samples) != (b.ids, b.samples):
                raise UserError(
                    f"The Gram matrices of '{first}' and '{model}' do not belong together: "
                    f"{path_of(first, batch)} {_holds(a)}, {path_of(model, batch)} {_holds(b)}. "
                    "Images may have changed or become readable in between. Remove the folder "
                    f"{FOLDER}/ of the run directory and run the step again."
                )


def digest(headers: Mapping[int, Header]) -> str:
    """Return the hash of a model's parts: what made them, and the samples that they hold."""
    ordered = [headers[batch] for batch in sorted(headers)]
    return fingerprint([[h.made_from, h.batch, h.samples, h.ids] for h in ordered])


def clean(store: RunStore, models: Iterable[str], batches: int) -> None:
    """Remove what belongs to none of these models and batches."""
    wanted = {quote(model, safe=""): model for model in models}
    for name in store.list(FOLDER):
        if name not in wanted:
            store.remove(f"{FOLDER}/{name}")
            continue
        parts = {path_of(wanted[name], batch) for batch in range(batches)}
        for part in store.list(f"{FOLDER}/{name}"):
            if f"{FOLDER}/{name}/{part}" not in parts:
                store.remove(f"{FOLDER}/{name}/{part}")


def _folder(model: str) -> str:
    return f"{FOLDER}/{quote(model, safe='')}"


def _header_of(store: RunStore, model: str, batch: int) -> Header | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.open(path_of(model, batch), "rb") as stream:
            return _header(pq.read_schema(stream).metadata)
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None


def _header(metadata: Mapping[bytes, bytes] | None) -> Header:
    """Return the header in a schema's metadata; a ValueError if there is none of this format."""
    document: Any = json.loads((metadata or {}).get(_KEY, b"{}"))
    try:
        header = Header(**document)
    except TypeError:
        raise ValueError("it has no header of this program") from None
    if header.format != FORMAT or header.dtype not in DTYPES:
        raise ValueError(f"its format is not {FORMAT}")
    return header


def _holds(header: Header | None) -> str:
    if header is None:
        return "is missing"
    return f"holds {header.samples} samples with the hash {header.ids[:12]}"
