"""The second pass: products of the Gram files of all models, batch by batch, within a memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from zoo_search.core.store import RunStore
from zoo_search.similarities.estimators.products import PairSums, Vectors
from zoo_search.similarities.passes import grams
from zoo_search.similarities.passes.grams import Header
from zoo_search.similarities.passes.images import windows_of

BUDGET = 768_000_000
"""Bytes of vectors in memory at once: two tiles at work and one that is being read."""
_RUNS = 3


@dataclass(frozen=True)
class Tile:
    """A tile of one batch's products: what to read for it, and what it is multiplied with.

    Attributes:
        headers: The Gram files of its columns, a run of models.
        cuts: The cuts of these models.
        own: Whether its rows are the same cuts; they are kept for the tiles that follow.
        last: Whether it is the batch's last.
    """

    headers: tuple[Header, ...]
    cuts: slice
    own: bool
    last: bool


def tiles_of(
    sums: PairSums, headers: Mapping[str, Mapping[int, Header]], budget: int = BUDGET
) -> list[Tile]:
    """Return the tiles that the sums want, batch after batch; all models have the same batches.

    The budget is that of float32 vectors in memory at once. If a batch of all models does not fit,
    it is cut into tiles of whole models; one model always fits.
    """
    tiles = []
    for batch in sorted(next(iter(headers.values()))):
        files = [of_model[batch] for of_model in headers.values()]
        places = [*itertools.accumulate((file.cuts for file in files), initial=0)]
        runs = list(windows_of([file.bytes for file in files], budget // _RUNS))
        cuts = [slice(places[run[0]], places[run[-1] + 1]) for run in runs]
        # The upper triangle, row after row: a row begins with the tile on the diagonal, whose
        # vectors stay in memory while those of the other columns are read one after the other.
        wanted = [
            (i, j)
            for i, j in itertools.combinations_with_replacement(range(len(runs)), 2)
            if sums.wants(cuts[i], cuts[j])
        ]
        tiles += [
            Tile(tuple(files[k] for k in runs[j]), cuts[j], i == j, (i, j) == wanted[-1])
            for i, j in wanted
        ]
    return tiles


def add_tiles(
    sums: PairSums,
    store: RunStore,
    tiles: Sequence[Tile],
    on_tile: Callable[[], None] = lambda: None,
) -> None:
    """Add the tiles to the sums; one is read (:func:`.grams.read`) while another is multiplied."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    own: tuple[slice, Vectors] | None = None
    for tile, (rows, norms) in zip(tiles, _read_ahead(store, tiles), strict=True):
        vectors = rows.to(device), norms
        if tile.own or own is None:
            own = tile.cuts, vectors
        sums.add_tile(own[0], tile.cuts, own[1], vectors)
        if tile.last:
            own = None
            sums.end_batch()
        on_tile()
        del rows, vectors  # before the next one is taken over: three tiles are the budget


def _read_ahead(store: RunStore, tiles: Sequence[Tile]) -> Iterator[Vectors]:
    """Yield the vectors of each tile, the next one being read meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="grams") as reader:
        waiting = reader.submit(_read, store, tiles[0].headers)
        for following in tiles[1:]:
            done, waiting = waiting, reader.submit(_read, store, following.headers)
            yield done.result()
        yield waiting.result()


def _read(store: RunStore, headers: Sequence[Header]) -> Vectors:
    """Return the vectors in some models' files of a batch."""
    cuts = sum(header.cuts for header in headers)
    rows = torch.empty(cuts, headers[0].vectors, headers[0].width)
    norms = torch.empty(cuts, headers[0].vectors, dtype=torch.float64)
    start = 0
    for header in headers:
        place = slice(start, start + header.cuts)
        rows[place], norms[place] = grams.read(store, header)
        start = place.stop
    return rows, norms
