"""The second pass: products of the Gram parts of all models, batch by batch, within a memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo_search.similarity import grams
from zoo_search.similarity.gather import windows_of

if TYPE_CHECKING:
    from zoo_search.similarity.estimators import PairSums
    from zoo_search.similarity.grams import Header
    from zoo_search.store import RunStore

__all__ = ["BUDGET", "add_batches", "rows_of"]

BUDGET = 768_000_000
"""Bytes of vectors in memory at once: two tiles at work and one that is being read."""
_TILES = 3


@dataclass(frozen=True)
class _Tile:
    cuts: slice
    rows: Tensor
    norms: Tensor


def rows_of(counts: Mapping[str, int]) -> dict[str, slice]:
    """Return the rows of each model in a table, from its number of cuts."""
    stops = list(itertools.accumulate(counts.values()))
    return {
        name: slice(stop - count, stop)
        for (name, count), stop in zip(counts.items(), stops, strict=True)
    }


def add_batches(
    sums: PairSums,
    store: RunStore,
    headers: Mapping[str, Mapping[int, Header]],
    budget: int = BUDGET,
    on_batch: Callable[[], None] = lambda: None,
) -> None:
    """Add every batch of the parts to the sums; one tile is read while another is multiplied.

    Args:
        sums: Takes the products; its cuts are those of all models, in order.
        store: The run directory.
        headers: By model and batch; all models have the same batches.
        budget: Bytes of float32 vectors in memory at once. If a batch of all models does not fit,
            it is cut into tiles of whole models; one model always fits.
        on_batch: Called after each batch.

    Raises:
        UserError: If a part cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = list(_steps(sums, headers, budget))
    loads = [(store, [headers[m][batch] for m in part]) for batch, _, part, _ in steps]
    places = rows_of({model: _cuts(parts) for model, parts in headers.items()})
    held: _Tile | None = None
    for (_, first, part, last), (rows, norms) in zip(steps, _ahead(loads), strict=True):
        cuts = slice(places[part[0]].start, places[part[-1]].stop)
        tile = _Tile(cuts, rows.to(device), norms)
        if first or held is None:
            held = tile
        sums.add_tile(held.cuts, tile.cuts, held.rows, held.norms, tile.rows, tile.norms)
        if last:
            held = None
            sums.end_batch()
            on_batch()
        del tile, rows


def _steps(
    sums: PairSums, headers: Mapping[str, Mapping[int, Header]], budget: int
) -> Iterator[tuple[int, bool, list[str], bool]]:
    """Yield what to read: (batch, whether it is a tile's first, its models, the batch's last)."""
    models = list(headers)
    places = rows_of({model: _cuts(parts) for model, parts in headers.items()})
    for batch in sorted(headers[models[0]]):
        sizes = [headers[model][batch].bytes for model in models]
        parts = [[models[i] for i in run] for run in windows_of(sizes, budget // _TILES)]
        cuts = [slice(places[part[0]].start, places[part[-1]].stop) for part in parts]
        todo = [
            (i == j, parts[j])
            for i, j in itertools.combinations_with_replacement(range(len(parts)), 2)
            if sums.wants(cuts[i], cuts[j])
        ]
        for number, (first, part) in enumerate(todo):
            yield batch, first, part, number == len(todo) - 1


def _ahead(
    loads: Sequence[tuple[RunStore, Sequence[Header]]],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the vectors of each load, the next one being read meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="grams") as reader:
        waiting = None
        for load in loads:
            following = reader.submit(_load, *load)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _load(store: RunStore, headers: Sequence[Header]) -> tuple[Tensor, Tensor]:
    """Return rows ``[cuts, parts, v]`` and norms ``[cuts, parts]`` of some models' parts."""
    cuts = sum(header.cuts for header in headers)
    rows = torch.empty(cuts, headers[0].parts, headers[0].width)
    norms = torch.empty(cuts, headers[0].parts, dtype=torch.float64)
    start = 0
    for header in headers:
        place = slice(start, start + header.cuts)
        rows[place], norms[place] = grams.read(store, header)
        start = place.stop
    return rows, norms


def _cuts(parts: Mapping[int, Header]) -> int:
    return next(iter(parts.values())).cuts
