"""Gram files: the vectors of one model's cuts on one batch, ``grams/<model>/<batch>.parquet``.

Columns ``cut: int32, part: int32, norm: float64, gram: fixed_size_binary``. ``gram`` holds the
vector of :class:`~.estimators.Embedding`, little endian: ``float16`` as
:func:`quantise` gives it, or the ``float32`` unit vector itself.
The schema's metadata holds, under the key ``zoo_search``, the fields of :class:`Header`: the hash
of what made the file, the hash of its sample ids, and its sizes; and their hash under
``zoo_search_check``. Each page of values has Parquet's own checksum. A file that cannot be read, or
is of another format, is none: it is made again, and so is one whose checksums are wrong.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.identity import fingerprint
from zoo_search.core.json_text import read_json
from zoo_search.similarities.estimators.registry import Embedding

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore

FOLDER = "grams"
FORMAT = 2
DTYPES = {"float16": 2, "float32": 4}
"""Bytes of an entry, by the name of the stored precision."""
_KEY, _CHECK = b"zoo_search", b"zoo_search_check"
_CACHED = 1 << 18


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        made_from: Hash of weights, images, batches and settings.
        samples: Images in the batch.
        ids: Hash of their sample ids, in order.
        cuts: Cuts of the model.
        vectors: Vectors a cut.
        width: Length of a vector.
        dtype: ``float16`` or ``float32``.
    """

    model: str
    batch: int
    made_from: str
    samples: int
    ids: str
    cuts: int
    vectors: int
    width: int
    dtype: str
    format: int = FORMAT

    def to_dict(self) -> dict[str, object]:
        """Return what the schema's metadata holds, where the vectors are called ``parts``."""
        return {"parts" if key == "vectors" else key: x for key, x in asdict(self).items()}

    @property
    def bytes(self) -> int:
        """Bytes of the vectors, once they are float32 in memory."""
        return self.cuts * self.vectors * self.width * 4


class DamagedError(UserError):
    """A file that was whole once is not any more.

    Attributes:
        header: What it should hold.
    """

    def __init__(self, message: str, header: Header | None = None) -> None:
        super().__init__(message)
        self.header = header


def path_of(model: str, batch: int) -> str:
    """Return the name of a file in the run directory."""
    return f"{folder_of(model)}/{batch:06d}.parquet"


def encode(
    model: str,
    made_from: str,
    batch: int,
    ids: Sequence[str],
    embedded: Sequence[Embedding],
    dtype: str,
) -> tuple[Header, bytes]:
    """Return the bytes of a file, with its header.

    ``ids`` are the samples of the batch, ``embedded`` has one embedding a cut, and ``dtype`` is
    one of :data:`DTYPES`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = torch.stack([e.rows for e in embedded])  # [cuts, vectors, v]
    norms = torch.stack([e.norms for e in embedded])
    cuts, vectors, width = rows.shape
    header = Header(
        model, batch, made_from, len(ids), fingerprint(list(ids)), cuts, vectors, width, dtype
    )
    stored = quantise(rows) if dtype == "float16" else rows
    flat = stored.cpu().contiguous().numpy().astype(f"<f{DTYPES[dtype]}", copy=False)
    columns = {
        "cut": (pa.int32(), np.repeat(np.arange(cuts, dtype=np.int32), vectors)),
        "part": (pa.int32(), np.tile(np.arange(vectors, dtype=np.int32), cuts)),
        "norm": (pa.float64(), norms.cpu().double().flatten().numpy()),
        "gram": (pa.binary(width * DTYPES[dtype]), flat),
    }
    # From buffers: pa.array would make every process import pandas.
    arrays = {
        name: pa.Array.from_buffers(kind, cuts * vectors, [None, pa.py_buffer(values)])
        for name, (kind, values) in columns.items()
    }
    said = json.dumps(header.to_dict()).encode()
    table = pa.table(arrays).replace_schema_metadata({_KEY: said, _CHECK: _hash(said)})
    sink = io.BytesIO()
    # Unit vectors are noise to a compressor and to a dictionary.
    pq.write_table(
        table, sink, compression="none", use_dictionary=False, write_statistics=False,
        write_page_checksum=True,
    )  # fmt: skip
    return header, sink.getvalue()


def read(store: RunStore, header: Header) -> tuple[Tensor, Tensor]:
    """Return the unit vectors ``[cuts, vectors, v]``, float32, and norms ``[cuts, vectors]``.

    Raises:
        DamagedError: If the file cannot be read, or a checksum is wrong.
        UserError: If it is not the one that the header describes.
    """
    import pyarrow as pa

    from zoo_search.core.parquet import open_parquet

    name = path_of(header.model, header.batch)
    try:
        table = open_parquet(store.read_bytes(name), store.path(name)).read()
        found = header_in(table.schema.metadata)
        gram = table["gram"].combine_chunks()
        norm = np.from_dlpack(table["norm"].cast(pa.float64()).combine_chunks())
        if gram.type != pa.binary(found.width * DTYPES[found.dtype]):
            raise ValueError(f"its vectors are of the type {gram.type}")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedError(
            f"{store.path(name)} is damaged ({first_line(error)}). Remove it and run the step "
            "again: only this batch of this model is made anew.",
            header,
        ) from None
    if found != header:
        raise UserError(
            f"{store.path(name)} was replaced while it was in use; another run may be writing into "
            f"{store.url}. Let one run at a time use a run directory, then run this one again."
        )
    # The column's buffer, from its offset on: no copy, and read-only until dequantised.
    values = np.frombuffer(gram.buffers()[1], f"<f{DTYPES[header.dtype]}")
    values = values[gram.offset * header.width :][: header.cuts * header.vectors * header.width]
    flat = torch.from_numpy(values.copy()).view(header.cuts, header.vectors, header.width)
    rows = dequantise(flat) if header.dtype == "float16" else flat
    return rows, torch.from_numpy(norm.copy()).view(header.cuts, header.vectors)


def folder_of(model: str) -> str:
    """Return the name of a model's folder in the run directory."""
    # quote leaves dots as they are, and ".." would be the folder above.
    return f"{FOLDER}/{quote(model, safe='').replace('.', '%2E', model.startswith('.'))}"


def header_in(metadata: Mapping[bytes, bytes] | None) -> Header:
    """Return the header in a schema's metadata; a ValueError if there is none of this format.

    Versions that wrote no hash of it are believed.
    """
    said = (metadata or {}).get(_KEY, b"{}")
    if (metadata or {}).get(_CHECK, _hash(said)) != _hash(said):
        raise ValueError("its header was changed")
    found = read_json(said)
    try:
        header = Header(vectors=found.pop("parts"), **found)
    except (TypeError, KeyError, AttributeError):
        raise ValueError("it has no header of this program") from None
    if header.format != FORMAT or header.dtype not in DTYPES:
        raise ValueError(f"its format is not {FORMAT}")
    return header


def _hash(said: bytes) -> bytes:
    return hashlib.sha256(said).hexdigest().encode()


def quantise(rows: Tensor) -> Tensor:
    """Return vectors ``[..., v]`` as float16, each over its largest entry.

    The scale is not kept: :func:`dequantise` gives unit vectors, whatever the length was.
    """
    largest = rows.abs().amax(dim=-1, keepdim=True)
    return (rows / largest.where(largest > 0, 1.0)).to(torch.float16)


def dequantise(stored: Tensor) -> Tensor:
    """Return the float32 unit vectors ``[..., v]`` of what :func:`quantise` made; 0 stays 0."""
    out = torch.empty(stored.shape, dtype=torch.float32, device=stored.device)
    rows, halves = out.view(-1, out.shape[-1]), stored.reshape(-1, out.shape[-1])
    # A few vectors at a time, so that what is converted is still in the cache when it is scaled.
    step = max(_CACHED // max(out.shape[-1], 1), 1)
    for chunk, half in zip(torch.split(rows, step), torch.split(halves, step), strict=True):
        chunk.copy_(half)
        lengths = torch.linalg.vector_norm(chunk, dim=-1, keepdim=True)
        chunk.div_(lengths.where(lengths > 0, 1.0))
    return out
