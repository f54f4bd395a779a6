"""The similarity table: one value for every ordered pair of cuts of a zoo."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from zoo_search.errors import UserError, nearest

__all__ = ["ModelCuts", "SimilarityTable"]

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
        from zoo_search.similarity.table_file import encode

        return encode(self)

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
        from zoo_search.similarity.table_file import decode

        return decode(data, name)

    def _slice(self, model: str) -> slice:
        try:
            return self._rows[model]
        except KeyError:
            raise UserError(
                f"The similarity table holds no model '{model}'.{nearest(model, self._rows)} "
                f"It holds: {', '.join(self._rows)}."
            ) from None
