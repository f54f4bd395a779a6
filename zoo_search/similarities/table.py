"""The similarity table, one value for every ordered pair of cuts of a zoo, and its file.

``similarity.parquet`` has the columns ``model_a: string, cut_a: int32, model_b: string,
cut_b: int32, value: float32``, every pair of cuts once in each direction, the diagonal 1. The
schema's metadata holds one JSON document under the key ``zoo_search``: what the table's
``metadata`` holds, the format's version, and per model its cuts' names and its nodes' parameters
and MACs.

Reading it imports neither pandas nor torch.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo_search.core import files
from zoo_search.core.errors import UserError, require
from zoo_search.core.json_text import read_json

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo_search.linegraph.graph import LineGraph

FORMAT = 1
_KEY = b"zoo_search"
_COLUMNS = {
    "model_a": "string", "cut_a": "int32", "model_b": "string", "cut_b": "int32",
    "value": "float32",
}  # fmt: skip

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

    @classmethod
    def of(cls, graph: LineGraph) -> ModelCuts:
        """Return what a table records of a model."""
        return cls(
            [cut.name for cut in graph.cuts],
            [node.params for node in graph.nodes],
            [node.macs for node in graph.nodes],
        )

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.params)


def rows_of(models: Mapping[str, ModelCuts]) -> dict[str, slice]:
    """Return the rows of each model in a table's values."""
    stops = itertools.accumulate((len(model.cuts) for model in models.values()), initial=0)
    return {
        name: slice(*ends) for name, ends in zip(models, itertools.pairwise(stops), strict=True)
    }


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
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        self.models: dict[str, ModelCuts] = dict(models)
        self.values: Values = np.asarray(values, dtype=np.float32)
        self.metadata: dict[str, object] = dict(metadata or {})
        self._rows = rows_of(self.models)
        n = sum(len(model.cuts) for model in self.models.values())
        if self.values.shape != (n, n):
            raise ValueError(f"values must be {(n, n)}, not {self.values.shape}.")

    def __repr__(self) -> str:
        metric = self.metadata.get("metric", "?")
        return f"SimilarityTable({metric}: {len(self.models)} models, {len(self.values)} cuts)"

    def block(self, model_a: str, model_b: str) -> Values:
        """Return the values of a pair of models, ``[cuts of a, cuts of b]`` (a view).

        Raises:
            UserError: If the table holds no such model.
        """
        for model in (model_a, model_b):
            problem = f"The similarity table holds no model '{model}'."
            require(model, self._rows, problem, "It holds")
        return self.values[self._rows[model_a], self._rows[model_b]]

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
        """Write the table to a local path or an fsspec URI, whole or not at all."""
        files.write(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the table as the bytes of its file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        counts, n = [len(model.cuts) for model in self.models.values()], len(self.values)
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
        models = {name: asdict(model) for name, model in self.models.items()}
        header = {**self.metadata, "format": FORMAT, "models": models}
        rows = pa.table(columns, names=list(_COLUMNS))
        rows = rows.replace_schema_metadata({_KEY: json.dumps(header).encode()})
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def load(cls, path: str | Path) -> SimilarityTable:
        """Read a table from a local path or an fsspec URI.

        Raises:
            UserError: If the file is missing, broken, or no similarity table of this format.
        """
        try:
            data = files.read(path)
        except OSError as error:
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

        from zoo_search.core.parquet import open_parquet

        try:
            # Not read_table, which imports pandas and the data sets of Arrow for one plain file.
            rows = open_parquet(data, name).read()
        except (pa.ArrowException, OSError) as error:
            raise _broken(name, f"it is no readable Parquet file ({error})") from None
        missing = [column for column in _COLUMNS if column not in rows.column_names]
        raw = (rows.schema.metadata or {}).get(_KEY)
        if missing or raw is None:
            lacks = f"the columns {', '.join(missing)}" if missing else "the metadata 'zoo_search'"
            raise _broken(name, f"it lacks {lacks}, so it was not written by this program")
        try:
            header = dict(read_json(raw))
            if header.pop("format", None) != FORMAT:
                raise _broken(name, f"its format is not {FORMAT}, the one this version reads")
            models = {
                str(model): ModelCuts(
                    [str(cut) for cut in facts["cuts"]],
                    [int(count) for count in facts["params"]],
                    [int(count) for count in facts["macs"]],
                )
                for model, facts in header.pop("models").items()
            }
            types = pa.schema({column: getattr(pa, kind)() for column, kind in _COLUMNS.items()})
            rows = rows.select(list(_COLUMNS)).cast(types)
            return cls(models, _dense(rows, models, name), header)
        except (ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
            raise _broken(name, f"its metadata and its rows do not fit ({error})") from None


def pairs(table: SimilarityTable) -> list[dict[str, object]]:
    """Return one row for a terminal a pair of models, most alike first.

    ``mean_best`` is the mean over both models' cuts of the highest similarity that each cut has in
    the other model; ``best`` the highest value over all cuts but the image, ``at`` where it stands.
    """
    rows: list[tuple[float, dict[str, object]]] = []
    for a, b in itertools.combinations(table.models, 2):
        block = table.block(a, b)
        inner = block[1:, 1:]
        i, j = divmod(int(inner.argmax()), inner.shape[1])
        best = [*block.max(axis=1), *block.max(axis=0)]
        mean = float(sum(best) / len(best))
        at = f"{table.models[a].cuts[i + 1]} | {table.models[b].cuts[j + 1]}"
        row = {"model_a": a, "model_b": b, "mean_best": mean, "best": float(inner[i, j]), "at": at}
        rows.append((mean, row))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


def _dense(rows: pa.Table, models: Mapping[str, ModelCuts], name: str) -> Values:
    """Return the rows as a matrix, whatever their order; every pair must be there once."""
    places = rows_of(models)
    n = sum(len(model.cuts) for model in models.values())
    place = []
    for side in ("a", "b"):
        # Names become numbers, and numbers the places of cuts in the matrix: one look-up a model
        # and not one a row, of which a large zoo has millions.
        words = rows[f"model_{side}"].combine_chunks().dictionary_encode()
        known = words.dictionary.to_pylist()
        strange = [word for word in known if word not in models]
        if strange or words.null_count:
            raise _broken(name, f"its rows name the model {(strange or [None])[0]!r}, unlisted")
        offset = np.array([places[word].start for word in known], dtype=np.int64)
        length = np.array([len(models[word].cuts) for word in known], dtype=np.int64)
        which, cut = _numbers(words.indices), _numbers(rows[f"cut_{side}"].combine_chunks())
        if np.any((cut < 0) | (cut >= length[which])):
            raise _broken(name, "its rows name a cut that its model does not have")
        place.append(offset[which] + cut)
    # A pair of cuts is one number below n²: as many rows as that, all different, are all pairs.
    flat = place[0] * n + place[1]
    if len(flat) != n * n or len(np.unique(flat)) != n * n:
        raise _broken(name, f"it has {len(flat)} rows where {n} cuts need {n * n} distinct ones")
    values = np.empty(n * n, dtype=np.float32)
    values[flat] = _numbers(rows["value"].combine_chunks())
    if not np.isfinite(values).all():
        raise _broken(name, "it holds a value that is no finite number")
    return values.reshape(n, n)


def _numbers(column: pa.Array) -> npt.NDArray[np.number[Any]]:
    """Return a column without nulls; its own ``to_numpy`` would import pandas."""
    return np.asarray(np.from_dlpack(column))


def _broken(name: str, why: str) -> UserError:
    return UserError(
        f"{name} is no similarity table that can be used: {why}. "
        "`zoo-search similarity JOB.yaml` writes one."
    )
