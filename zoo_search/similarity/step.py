"""The step ``similarity`` of a run: Gram parts by Ray, then one table by matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo_search.errors import UserError
from zoo_search.progress import console, progress
from zoo_search.similarity import grams, tiles
from zoo_search.similarity.api import chunks, cuts_of
from zoo_search.similarity.estimators import PairSums, get_metric
from zoo_search.similarity.extract import Settings
from zoo_search.similarity.features import check_rules
from zoo_search.similarity.parts import user_errors, view_of, write_parts
from zoo_search.similarity.pool import Job
from zoo_search.similarity.table import SimilarityTable
from zoo_search.store import fingerprint

if TYPE_CHECKING:
    from zoo_search.config import SimilarityConfig
    from zoo_search.data.base import Subset
    from zoo_search.similarity.grams import Header
    from zoo_search.store import RunStore
    from zoo_search.zoo.models import ZooModel

__all__ = ["ARTIFACT", "Made", "compute", "fixed_batches", "make"]

ARTIFACT = "similarity.parquet"


@dataclass(frozen=True)
class Made:
    """What the step made, and what it cost.

    Attributes:
        table: The similarity table.
        forwards: Batches that each model was run on; models that were not run are not named.
        products: Inner products of pairs of vectors.
    """

    table: SimilarityTable
    forwards: dict[str, int]
    products: int


def fixed_batches(ids: Sequence[str], batch_size: int, seed: int) -> list[list[str]]:
    """Return the batches: the ids permuted by the seed and cut into chunks.

    A last batch of fewer than 4 joins the one before.

    Raises:
        UserError: If there are fewer than 4 ids, or the batch size is below 4.
    """
    parts = chunks(len(ids), batch_size)
    order = np.random.default_rng(seed).permutation(len(ids))
    shuffled = [ids[i] for i in order]
    return [shuffled[part] for part in parts]


def compute(
    zoo: Mapping[str, ZooModel],
    subset: Subset,
    config: SimilarityConfig,
    seed: int,
    store: RunStore,
) -> SimilarityTable:
    """Compute the similarity table of a zoo on a subset and write ``similarity.parquet``.

    A batch whose Gram part is there and was made from the same weights, images, batches and
    settings is not run again; a pair of models that the table at hand already compares on the same
    Gram parts is not compared again. Parts of models that left are removed.

    Args:
        zoo: Name to model.
        subset: The images.
        config: The section ``similarity`` of the run file.
        seed: Seed of the batches.
        store: The run directory; ``grams/<model>/<batch>.parquet`` go there too.

    Raises:
        UserError: If there are too few images, a feature is NaN or infinite, or it will not fit.
    """
    return make(zoo, subset, config, seed, store).table


def make(
    zoo: Mapping[str, ZooModel],
    subset: Subset,
    config: SimilarityConfig,
    seed: int,
    store: RunStore,
) -> Made:
    """Do what :func:`compute` does, and say what it cost."""
    get_metric(config.metric)
    settings = Settings(
        config.metric,
        config.pool,
        config.prefix,
        config.precision,
        config.gram_dtype,
        config.compile,
    )
    check_rules(settings.pooling, settings.prefix)
    if not zoo:
        raise UserError("The zoo is empty; similarity needs at least one model.")
    batches = fixed_batches(subset.ids, config.batch_size, seed)
    made_from = {name: _made_from(model, subset, batches, settings) for name, model in zoo.items()}
    headers = grams.find(store, made_from, len(batches))
    jobs = {
        name: Job((model.graph, model.transform), made_from[name], missing)
        for name, model in zoo.items()
        if (missing := frozenset(range(len(batches))) - headers[name].keys())
    }
    kept = [name for name in zoo if name not in jobs]
    if kept:
        console.print(f"  similarity: skipped {', '.join(kept)} (Gram matrices are up to date)")
    forwards: Counter[str] = Counter()
    if jobs:
        views = {name: view_of(zoo[name]) for name in jobs}
        cuts = sum(len(model.graph.cuts) for model in zoo.values())
        with user_errors():
            for header in write_parts(jobs, views, subset, batches, settings, config, store, cuts):
                headers[header.model][header.batch] = header
                forwards[header.model] += 1
    grams.check_same(headers)
    table, products = _table(zoo, headers, config, store)
    table.metadata |= {"dataset": subset.fingerprint, "seed": seed}
    store.write_bytes(ARTIFACT, table.to_bytes())
    grams.clean(store, zoo, len(batches))
    return Made(table, dict(forwards), products)


def _made_from(
    model: ZooModel, subset: Subset, batches: Sequence[Sequence[str]], settings: Settings
) -> str:
    """Return the hash of everything that a model's Gram parts depend on."""
    how = asdict(settings)
    del how["compile"]  # the same functions, up to rounding
    return fingerprint(
        {
            "format": grams.FORMAT,
            "model": model.identity,
            "cuts": [cut.name for cut in model.graph.cuts],
            "dataset": subset.fingerprint,
            "batches": [list(batch) for batch in batches],
            "settings": how,
        }
    )


def _table(
    zoo: Mapping[str, ZooModel],
    headers: Mapping[str, Mapping[int, Header]],
    config: SimilarityConfig,
    store: RunStore,
) -> tuple[SimilarityTable, int]:
    """Return the table, and how many inner products it took."""
    made = {name: grams.digest(headers[name]) for name in zoo}
    cuts = {name: cuts_of(model.graph) for name, model in zoo.items()}
    places = tiles.rows_of({name: len(model.cuts) for name, model in cuts.items()})
    fresh = np.ones(sum(len(model.cuts) for model in cuts.values()), dtype=np.bool_)
    known = _known(store, made, cuts, places, fresh)
    sums = PairSums(get_metric(config.metric), len(fresh), fresh)
    first = next(iter(headers.values()))
    if fresh.any():
        with progress("similarity: products", len(first)) as bar:
            tiles.add_batches(sums, store, headers, on_batch=bar.advance)
    metadata = {
        "metric": config.metric,
        "samples": sum(header.samples for header in first.values()),
        "batch_size": config.batch_size,
        "pool": config.pool,
        "prefix": config.prefix,
        "precision": config.precision,
        "gram_dtype": config.gram_dtype,
        "grams": made,
    }
    return SimilarityTable(cuts, sums.values(known), metadata), sums.computed


def _known(
    store: RunStore,
    made: Mapping[str, str],
    cuts: Mapping[str, Any],
    places: Mapping[str, slice],
    fresh: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float32]:
    """Return what the table at hand already knows, and unmark its models' cuts in ``fresh``."""
    known = np.zeros((len(fresh), len(fresh)), dtype=np.float32)
    if not store.exists(ARTIFACT):
        return known
    try:
        old = SimilarityTable.from_bytes(store.read_bytes(ARTIFACT))
    except UserError:
        return known
    digests = old.metadata.get("grams")
    digests = digests if isinstance(digests, dict) else {}
    same = [
        name
        for name in made
        if digests.get(name) == made[name] and cuts[name].cuts == old.models[name].cuts
    ]
    for a in same:
        fresh[places[a]] = False
        for b in same:
            known[places[a], places[b]] = old.block(a, b)
    return known
