"""The step ``similarity`` of a run: Gram files by Ray, then one table by matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo_search import cluster
from zoo_search.cluster.hosts import Hosts, borrowed
from zoo_search.config import DatasetConfig, SimilarityConfig
from zoo_search.core.errors import UserError
from zoo_search.core.identity import fingerprint
from zoo_search.core.progress import console, progress
from zoo_search.core.redaction import redacted_values
from zoo_search.core.store import RunStore
from zoo_search.data.base import Subset
from zoo_search.similarities.api import chunks
from zoo_search.similarities.estimators.products import PairSums
from zoo_search.similarities.estimators.registry import METRICS, get_metric, metric_identity
from zoo_search.similarities.passes import gram_folder, grams, second
from zoo_search.similarities.passes.extract import ModelJob
from zoo_search.similarities.passes.first import write_gram_files
from zoo_search.similarities.passes.grams import Header
from zoo_search.similarities.table import ModelCuts, SimilarityTable, rows_of
from zoo_search.training.precision import precision_on
from zoo_search.zoo.models import ZooModel

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
    """Return the batches: the ids permuted by the seed and cut as :func:`.api.chunks` says."""
    places = chunks(len(ids), batch_size)
    order = np.random.default_rng(seed).permutation(len(ids))
    return [[ids[i] for i in order[place]] for place in places]


def compute(
    zoo: Mapping[str, ZooModel],
    subset: Subset,
    config: SimilarityConfig,
    seed: int,
    store: RunStore,
    hosts: Hosts | None = None,
    source: DatasetConfig | None = None,
) -> Made:
    """Compute the similarity table of a zoo on a subset and write ``similarity.parquet``.

    A batch whose Gram file is there and was made from the same weights, images, batches and
    settings is not run again; a pair of models that the table at hand already compares on the same
    Gram files is not compared again. Files of models that left are removed.

    The seed decides on the batches; ``source`` says in the table's metadata which data set the
    subset is of. Without the processes of a run as ``hosts`` some are started and ended here.

    Raises:
        UserError: If there are too few images, a feature is NaN or infinite, or it will not fit.
    """
    metric = get_metric(config.metric)
    # Hosts with GPUs see for themselves; this process may have none.
    if config.precision == "bf16" and not cluster.connect().gpus:
        precision = precision_on("cpu", "bf16", lambda words: console.print(f"  {words}"))
        config = config.model_copy(update={"precision": precision})
    if not zoo:
        raise UserError("The zoo is empty; similarity needs at least one model.")
    batches = fixed_batches(subset.ids, config.batch_size, seed)
    made_from = {name: _made_from(model, subset, batches, config) for name, model in zoo.items()}
    headers = gram_folder.find(store, made_from, len(batches))
    if config.metric not in METRICS.ours:
        cluster.ship(metric.embed)
    kept = [name for name in zoo if len(headers[name]) == len(batches)]
    if kept:
        console.print(f"  similarity: skipped {', '.join(kept)} (Gram matrices are up to date)")
    forwards: Counter[str] = Counter()
    cuts = sum(len(model.graph.cuts) for model in zoo.values())

    def complete() -> None:
        """Make the files that are missing."""
        jobs = {
            name: ModelJob(model.graph, model.transform, made_from[name], missing)
            for name, model in zoo.items()
            if (missing := frozenset(range(len(batches))) - headers[name].keys())
        }
        if jobs:
            with borrowed(hosts) as mine:
                for header in write_gram_files(
                    jobs, subset, batches, config, metric, store, cuts, mine
                ):
                    headers[header.model][header.batch] = header
                    forwards[header.model] += 1
        gram_folder.check_same(headers)

    complete()
    while True:
        try:
            table, products = _table(zoo, headers, config, store)
            break
        except grams.DamagedError as damaged:
            found = damaged.header
            if found is None or forwards[found.model] > 2 * len(batches):
                raise  # a disk that keeps nothing
            path = grams.path_of(found.model, found.batch)
            console.print(f"  {store.path(path)} is damaged: removed, and made anew")
            store.remove(path)
            del headers[found.model][found.batch]
            complete()
    table.metadata |= {"dataset": subset.fingerprint, "seed": seed}
    if source is not None:
        table.metadata["source"] = redacted_values(source.as_given())
    store.write_bytes(ARTIFACT, table.to_bytes())
    gram_folder.clean(store, zoo, len(batches))
    return Made(table, dict(forwards), products)


def _made_from(
    model: ZooModel, subset: Subset, batches: Sequence[Sequence[str]], config: SimilarityConfig
) -> str:
    """Return the hash of everything that a model's Gram files depend on."""
    own = metric_identity(config.metric)
    return fingerprint(
        {
            "format": grams.FORMAT,
            "model": model.identity,
            "cuts": [cut.name for cut in model.graph.cuts],
            "dataset": subset.fingerprint,
            "batches": [list(batch) for batch in batches],
            "settings": {
                "metric": config.metric,
                "pooling": config.pool,
                "prefix": config.prefix,
                "precision": config.precision,
                "gram_dtype": config.gram_dtype,
            },
            **({"own": own} if own else {}),
        }
    )


def _table(
    zoo: Mapping[str, ZooModel],
    headers: Mapping[str, Mapping[int, Header]],
    config: SimilarityConfig,
    store: RunStore,
) -> tuple[SimilarityTable, int]:
    """Return the table, and how many inner products it took."""
    made = {name: gram_folder.digest(headers[name]) for name in zoo}
    cuts = {name: ModelCuts.of(model.graph) for name, model in zoo.items()}
    fresh = np.ones(sum(len(model.cuts) for model in cuts.values()), dtype=np.bool_)
    known = _known(store, made, cuts, fresh)
    sums = PairSums(get_metric(config.metric), len(fresh), fresh)
    if fresh.any():
        tiles = second.tiles_of(sums, headers)
        with progress("similarity: products", len(tiles)) as bar:
            second.add_tiles(sums, store, tiles, bar.advance)
    metadata = {
        "metric": config.metric,
        "samples": sum(header.samples for header in next(iter(headers.values())).values()),
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
    cuts: Mapping[str, ModelCuts],
    fresh: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float32]:
    """Return what the table at hand already knows, and unmark its models' cuts in ``fresh``."""
    known = np.zeros((len(fresh), len(fresh)), dtype=np.float32)
    if not store.exists(ARTIFACT):
        return known
    places = rows_of(cuts)
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
