"""A similarity table that a zoo brings along, of an earlier run or somebody else's.

DeRy section 4 makes its table once, offline, on ImageNet, and reassembles for many data sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from zoo_search.core import files
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.similarities.table import ModelCuts, SimilarityTable, rows_of

_ALLOWED = (
    "A table that is given must hold every model of the zoo, under its name, with the same cuts "
    "and as many parameters in each node; it may hold more models."
)
_CURE = (
    "Give a table of these very models (`zoo-search similarity JOB.yaml` writes one), rename the "
    "model, or leave out 'similarity.table': then the table is computed."
)


@dataclass(frozen=True)
class GivenTable:
    """A table as it was found.

    Attributes:
        place: Its path or URI, as the run file gives it.
        table: All of it.
        sha256: Of the file.
    """

    place: str
    table: SimilarityTable
    sha256: str

    def of_zoo(self, models: Mapping[str, ModelCuts]) -> SimilarityTable:
        """Return the part of the table for the models of a zoo, in their order.

        Parameters and multiply-adds of nodes are the zoo's own, since multiply-adds depend on the
        input size. The metadata is the table's, but for ``grams``, which lie with whoever made it,
        and says under ``given`` the file's hash. Which weights the table was made with it does not
        say, and nobody checks.

        Raises:
            UserError: If a model is missing, or has other cuts or parameters.
        """
        check_models(self, models)
        for name, cuts in models.items():
            problem = _difference(self.table.models[name], cuts)
            if problem:
                raise UserError(
                    f"similarity.table: {self.place} was not made with the model '{name}' of this "
                    f"zoo: {problem}. {_ALLOWED} {_CURE}"
                )
        rows = rows_of(self.table.models)
        chosen = np.concatenate([np.arange(rows[n].start, rows[n].stop) for n in models])
        values = self.table.values[np.ix_(chosen, chosen)]
        metadata = {k: v for k, v in self.table.metadata.items() if k != "grams"}
        return SimilarityTable(models, values, metadata | {"given": {"sha256": self.sha256}})


def read_given(place: str, names: Collection[str]) -> GivenTable:
    """Read a table that must hold the models of these names.

    Args:
        place: A path or an fsspec URI.
        names: Of the zoo's models.

    Raises:
        UserError: If it cannot be read, is no similarity table, or lacks a model.
    """
    try:
        data = files.read(place)
    except OSError as error:
        raise UserError(
            f"similarity.table: there is no table that can be read at {place} ({error}). Give the "
            f"path or URI of a similarity.parquet. {files.RELATIVE}"
        ) from None
    table = SimilarityTable.from_bytes(data, f"similarity.table: {place}")
    found = GivenTable(place, table, hashlib.sha256(data).hexdigest())
    check_models(found, names)
    return found


def check_models(given: GivenTable, names: Collection[str]) -> None:
    """Refuse a table that lacks a model.

    Raises:
        UserError: Names what is missing and what the table holds.
    """
    missing = [name for name in names if name not in given.table.models]
    if missing:
        raise UserError(
            f"similarity.table: {given.place} lacks {' and '.join(map(repr, missing))} of the "
            f"zoo; it holds {', '.join(given.table.models)}. {_ALLOWED} {_CURE}"
        )


def write_given(given: GivenTable, models: Mapping[str, ModelCuts], store: RunStore) -> str:
    """Write the part of a table for a zoo as ``similarity.parquet``; return what it is, in words.

    Raises:
        UserError: As :meth:`GivenTable.of_zoo`.
    """
    table = given.of_zoo(models)
    store.write_bytes("similarity.parquet", table.to_bytes())
    made = table.metadata
    source = made.get("source")
    on = source.get("name") if isinstance(source, dict) else None
    return (
        f"taken from {given.place}: {made.get('metric', 'an unnamed metric')} on "
        f"{made.get('samples', 'an unknown number of')} images of {on or 'an unnamed data set'}"
    )


def _difference(there: ModelCuts, here: ModelCuts) -> str:
    """Return the first thing in which a model differs, in words; empty if it is the same."""
    if len(there.cuts) != len(here.cuts):
        return f"it has {len(there.cuts)} cuts there and {len(here.cuts)} here"
    for i, (one, other) in enumerate(zip(there.cuts, here.cuts, strict=True)):
        if one != other:
            return f"its cut {i} is '{one}' there and '{other}' here"
    for i, (many, few) in enumerate(zip(there.params, here.params, strict=True)):
        if many != few:
            return (
                f"its node {i} ('{here.cuts[i + 1]}') has {many:,} parameters there, {few:,} here"
            )
    return ""
