"""The similarity table: one value for every ordered pair of cuts of a zoo, and its file.

The file (Parquet) has the columns ``model_a: string, cut_a: int32, model_b: string, cut_b: int32,
value: float32``, every pair of cuts once in each direction, the diagonal 1. The schema's metadata
holds one JSON document under the key ``zoo_search``.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from zoo_search.errors import UserError, nearest

__all__ = ["FORMAT", "ModelCuts", "SimilarityTable"]

FORMAT = 1
_KEY = b"zoo_search"
_COLUMNS = ("model_a", "cut_a", "model_b", "cut_b", "value")

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelCuts:
    """What a similarity table knows of one model.

    Attributes:
        cuts: Names of the cuts ``0 .. L``.
        params: Parameters of each of the ``L`` nodes.
        macs: Multiply-adds of each of the ``L`` nodes for one image.
    """

    cuts: list[str]
    params: list[int]
    macs: list[int]

    def __post_init__(self) -> None:
        if not len(self.cuts) - 1 == len(self.params) == len(self.macs):
            raise ValueError(
                f"{len(self.cuts)} cuts need {len(self.cuts) - 1} nodes; there are "
                f"{len(self.params)} parameter counts and {len(self.macs)} MAC counts."
            )

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.params)


class SimilarityTable:
    """Similarity of every cut of every model with every cut of every model.

    Args:
        models: What the table knows of each model, in the order of the rows.
        values: ``[n, n]`` with ``n`` the sum of the models' cuts; row = first cut of the pair.
        metadata: ``metric``, ``samples``, ``batch_size``, ``dataset`` (fingerprint), and more.

    Raises:
        ValueError: If the shape of ``values`` does not fit ``models``.
    """

    def __init__(
        self,
        models: Mapping[str, ModelCuts],
        values: npt.ArrayLike,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.models: dict[str, ModelCuts] = dict(models)
        self.values: Values = np.asarray(values, dtype=np.float32)
        self.metadata: dict[str, Any] = dict(metadata or {})
        counts = [len(model.cuts) for model in self.models.values()]
        if self.values.shape != (sum(counts), sum(counts)):
            raise ValueError(
                f"values must be {(sum(counts), sum(counts))}, not {self.values.shape}."
            )
        stops = list(itertools.accumulate(counts))
        self._rows = {
            name: slice(stop - count, stop)
            for name, stop, count in zip(self.models, stops, counts, strict=True)
        }

    def __repr__(self) -> str:
        metric = self.metadata.get("metric", "?")
        return f"SimilarityTable({metric}: {len(self.models)} models, {len(self.values)} cuts)"

    def block(self, model_a: str, model_b: str) -> Values:
        """Return the values of a pair of models, ``[cuts of a, cuts of b]`` (a view).

        Raises:
            UserError: If the table holds no such model.
        """
        return self.values[self._slice(model_a), self._slice(model_b)]

    def value(self, model_a: str, cut_a: int, model_b: str, cut_b: int) -> float:
        """Return the similarity of two cuts.

        Raises:
            UserError: If the table holds no such model.
            IndexError: If a model has no such cut.
        """
        if min(cut_a, cut_b) < 0:
            raise IndexError("cuts count from 0")
        return float(self.block(model_a, model_b)[cut_a, cut_b])

    def save(self, path: str | Path) -> None:
        """Write the table to a local path (whole or not at all) or an fsspec URI."""
        data = self.to_bytes()
        if "://" in str(path):
            import fsspec

            with fsspec.open(str(path), "wb") as file:
                file.write(data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{uuid4().hex}")
        try:
            aside.write_bytes(data)
            aside.replace(target)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()

    def to_bytes(self) -> bytes:
        """Return the table as the bytes of its Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        counts = [len(model.cuts) for model in self.models.values()]
        n = sum(counts)
        owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        cut = np.concatenate([np.arange(c, dtype=np.int32) for c in counts] or [owner])
        names = pa.array(list(self.models), pa.string())
        columns = [
            names.take(pa.array(np.repeat(owner, n))),
            pa.array(np.repeat(cut, n)),
            names.take(pa.array(np.tile(owner, n))),
            pa.array(np.tile(cut, n)),
            pa.array(self.values.ravel()),
        ]
        header = {**self.metadata, "format": FORMAT, "models": _models_to_json(self.models)}
        table = pa.table(columns, names=list(_COLUMNS))
        table = table.replace_schema_metadata({_KEY: json.dumps(header).encode()})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def load(cls, path: str | Path) -> SimilarityTable:
        """Read a table from a local path or an fsspec URI.

        Raises:
            UserError: If the file is missing, broken, or no similarity table of this format.
        """
        import fsspec

        try:
            with fsspec.open(str(path), "rb") as file:
                data: bytes = file.read()
        except (OSError, ValueError, ImportError) as error:
            raise UserError(
                f"The similarity table {path} cannot be read ({error}). Give the path of a "
                "similarity.parquet; `zoo-search similarity JOB.yaml` writes one."
            ) from None
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the similarity table") -> SimilarityTable:
        """Read a table from the bytes of its Parquet file; ``name`` is what errors call it.

        Raises:
            UserError: If the bytes are broken or no similarity table of this format.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            raise _broken(name, f"it is no readable Parquet file ({error})") from None
        missing = [column for column in _COLUMNS if column not in table.column_names]
        raw = (table.schema.metadata or {}).get(_KEY)
        if missing or raw is None:
            lacks = f"the columns {', '.join(missing)}" if missing else "the metadata 'zoo_search'"
            raise _broken(name, f"it lacks {lacks}, so it was not written by this program")
        try:
            header = dict(json.loads(raw))
            if header.pop("format", None) != FORMAT:
                raise _broken(name, f"its format is not {FORMAT}, the one this version reads")
            models = _models_from_json(header.pop("models"))
            return cls(models, _dense(table, models, name), header)
        except (ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
            raise _broken(name, f"its metadata and its rows do not fit ({error})") from None

    def _slice(self, model: str) -> slice:
        try:
            return self._rows[model]
        except KeyError:
            raise UserError(
                f"The similarity table holds no model '{model}'.{nearest(model, self._rows)} "
                f"It holds: {', '.join(self._rows)}."
            ) from None


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
