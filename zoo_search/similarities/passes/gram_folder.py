"""The Gram files of a run: which of them can be used, and whether they belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from zoo_search.core.errors import UserError
from zoo_search.core.identity import fingerprint
from zoo_search.core.store import RunStore
from zoo_search.similarities.passes import grams
from zoo_search.similarities.passes.grams import Header

_READERS = 16
_OURS = re.compile(r"\d{6,}\.parquet")


def find(store: RunStore, models: Mapping[str, str], batches: int) -> dict[str, dict[int, Header]]:
    """Return the headers of the files that can be used, by model and batch.

    Those are the files of the first ``batches`` batches that are made from the hash of their model.
    """
    names = [
        (model, int(stem))
        for model in models
        for stem, _, kind in (name.partition(".") for name in store.list(grams.folder_of(model)))
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
    """Raise :class:`UserError` unless all models' files hold the same batches and samples."""
    first, others = next(iter(headers)), list(headers)[1:]
    for model in others:
        for batch in sorted({*headers[first], *headers[model]}):
            a, b = headers[first].get(batch), headers[model].get(batch)
            if a is None or b is None or (a.ids, a.samples) != (b.ids, b.samples):
                raise UserError(
                    f"The Gram matrices of '{first}' and '{model}' do not belong together: "
                    f"{grams.path_of(first, batch)} {_holds(a)}, "
                    f"{grams.path_of(model, batch)} {_holds(b)}. "
                    "Images may have changed or become readable in between. Remove the folder "
                    f"{grams.FOLDER}/ of the run directory and run the step again."
                )


def digest(headers: Mapping[int, Header]) -> str:
    """Return the hash of a model's files: what made them, and the samples that they hold."""
    ordered = [headers[batch] for batch in sorted(headers)]
    return fingerprint([[h.made_from, h.batch, h.samples, h.ids] for h in ordered])


def clean(store: RunStore, models: Iterable[str], batches: int) -> None:
    """Remove the Gram files that belong to none of these models and batches; others stay."""
    folders = {grams.folder_of(model): model for model in models}
    for folder in (f"{grams.FOLDER}/{name}" for name in store.list(grams.FOLDER)):
        ours = [name for name in store.list(folder) if _OURS.fullmatch(name)]
        if folder not in folders:
            store.remove(folder, ours)
            continue
        wanted = {grams.path_of(folders[folder], batch) for batch in range(batches)}
        for path in {f"{folder}/{name}" for name in ours} - wanted:
            store.remove(path)


def _header_of(store: RunStore, model: str, batch: int) -> Header | None:
    import pyarrow as pa

    from zoo_search.core.parquet import open_parquet

    name = grams.path_of(model, batch)
    try:
        with store.open(name, "rb") as stream:
            return grams.header_in(open_parquet(stream, store.path(name)).schema_arrow.metadata)
    except (pa.ArrowException, OSError, KeyError, ValueError, UserError):
        return None


def _holds(header: Header | None) -> str:
    if header is None:
        return "is missing"
    return f"holds {header.samples} samples with the hash {header.ids[:12]}"
