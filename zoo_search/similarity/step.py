"""The step ``similarity`` of a run: Gram files by Ray, then one table by matrix products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_search.errors import UserError
from zoo_search.progress import Bar, console, progress
from zoo_search.similarity import grams
from zoo_search.similarity.api import chunks, cuts_of
from zoo_search.similarity.estimators import MIN_IMAGES, PairSums, get_metric
from zoo_search.similarity.extract import Pool, Settings
from zoo_search.similarity.features import check_rules
from zoo_search.similarity.gather import ImageBatch, View, gather_batches
from zoo_search.similarity.table import SimilarityTable
from zoo_search.store import fingerprint

if TYPE_CHECKING:
    from zoo_search.config import SimilarityConfig
    from zoo_search.data.base import Subset
    from zoo_search.store import RunStore
    from zoo_search.zoo.models import ZooModel

__all__ = ["ARTIFACT", "compute", "fixed_batches"]

ARTIFACT = "similarity.parquet"
_PREFIX = "mean"


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

    A model whose Gram file is there and was made from the same weights, images, batches and
    settings is not run again.

    Args:
        zoo: Name to model.
        subset: The images.
        config: The section ``similarity`` of the run file.
        seed: Seed of the batches.
        store: The run directory; ``grams/<model>.parquet`` go there too.

    Raises:
        UserError: If there are too few images, or a feature is NaN or infinite.
    """
    metric = get_metric(config.metric)
    settings = Settings(config.metric, config.pool, _PREFIX, config.precision)
    check_rules(settings.pooling, settings.prefix)
    if not zoo:
        raise UserError("The zoo is empty; similarity needs at least one model.")
    batches = fixed_batches(subset.ids, config.batch_size, seed)
    made_from = {name: _made_from(model, subset, batches, settings) for name, model in zoo.items()}
    with progress("similarity", len(zoo) * len(batches)) as bar:
        stale = {}
        for name, model in zoo.items():
            if grams.is_current(store, name, made_from[name]):
                bar.advance(len(batches), note=f"{name}: skipped")
            else:
                stale[name] = model
        if len(stale) < len(zoo):
            kept = ", ".join(name for name in zoo if name not in stale)
            console.print(f"  similarity: skipped {kept} (Gram matrices are up to date)")
        if stale:
            _write_grams(stale, subset, batches, settings, made_from, store, bar)

    sums = PairSums(metric, sum(len(model.graph.cuts) for model in zoo.values()))
    reader = grams.Reader(store, list(zoo), metric)
    for rows, norms in reader.batches():
        sums.add(rows, norms)
    metadata = {
        "metric": config.metric,
        "samples": reader.samples,
        "batch_size": config.batch_size,
        "dataset": subset.fingerprint,
        "seed": seed,
        "pool": config.pool,
        "prefix": _PREFIX,
        "precision": config.precision,
    }
    cuts = {name: cuts_of(model.graph) for name, model in zoo.items()}
    table = SimilarityTable(cuts, sums.values(), metadata)
    store.write_bytes(ARTIFACT, table.to_bytes())
    return table


def _made_from(
    model: ZooModel, subset: Subset, batches: Sequence[Sequence[str]], settings: Settings
) -> str:
    """Return the hash of everything that a model's Gram file depends on."""
    transform = model.transform
    return fingerprint(
        {
            "format": grams.FORMAT,
            "weights": model.weights_hash,
            "cuts": [cut.name for cut in model.graph.cuts],
            "transform": [
                list(transform.size),
                list(transform.mean),
                list(transform.std),
                transform.interpolation,
                transform.crop_pct,
            ],
            "dataset": subset.fingerprint,
            "batches": [list(batch) for batch in batches],
            "settings": [settings.metric, settings.pooling, settings.prefix, settings.precision],
        }
    )


def _write_grams(
    models: Mapping[str, ZooModel],
    subset: Subset,
    batches: Sequence[Sequence[str]],
    settings: Settings,
    made_from: Mapping[str, str],
    store: RunStore,
    bar: Bar,
) -> None:
    """Run the models over the batches, one view of the images after the other."""
    from zoo_search import engine

    engine.connect()
    views: dict[View, list[str]] = {}
    for name, model in models.items():
        t = model.transform
        views.setdefault(View(t.size, t.interpolation, t.crop_pct), []).append(name)
    with _user_errors(), contextlib.closing(Pool(settings, len(models))) as pool:
        for view, names in views.items():
            images = gather_batches(subset, batches, view)
            _check_sizes(images)
            _write_view(pool, {name: models[name] for name in names}, images, made_from, store, bar)


def _write_view(
    pool: Pool,
    models: Mapping[str, ZooModel],
    images: Sequence[ImageBatch],
    made_from: Mapping[str, str],
    store: RunStore,
    bar: Bar,
) -> None:
    """Write the Gram file of each model as its batches come."""
    sources = {name: (model.graph, model.transform) for name, model in models.items()}
    left = dict.fromkeys(models, len(images))
    with contextlib.ExitStack() as stack:
        writers: dict[str, grams.Writer] = {}
        for name, _, rows in pool.run(sources, images):
            if name not in writers:
                writer = grams.Writer(store, name, made_from[name], {"model": name})
                writers[name] = stack.enter_context(writer)
            writers[name].write(rows)
            left[name] -= 1
            if not left[name]:
                writers[name].close()
            bar.advance(note=name)


def _check_sizes(images: Sequence[ImageBatch]) -> None:
    for batch in images:
        if len(batch.ids) < MIN_IMAGES:
            raise UserError(
                f"Only {len(batch.ids)} images of batch {batch.index} can be decoded; similarity "
                f"needs {MIN_IMAGES} in each. Repair the files, or raise similarity.batch_size."
            )


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    """Let a :class:`UserError` of a worker through as itself, not in Ray's wrapping."""
    try:
        yield
    except Exception as error:
        found: Any = error
        for _ in range(8):
            if type(found) is UserError:
                raise found from None
            found = getattr(found, "cause", None) or getattr(found, "__cause__", None)
        raise
