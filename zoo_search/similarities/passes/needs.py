"""What the step will need in memory and on disk, before it starts, and whether that is there."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from torch import nn

from zoo_search.cluster.connection import Resources
from zoo_search.config import SimilarityConfig
from zoo_search.core.errors import UserError
from zoo_search.core.files import gb
from zoo_search.core.store import RunStore
from zoo_search.linegraph.graph import LineGraph
from zoo_search.similarities.estimators.features import images_at_once
from zoo_search.similarities.estimators.registry import get_metric, vector_length
from zoo_search.similarities.passes import grams, second
from zoo_search.similarities.passes.extract import ModelJob

_PROCESS = 1_000_000_000  # a worker that has imported Ray and torch
_COPIES = 6  # tensors of a cut's size that a block holds at its peak, its inner width included
_FILE = 1_950  # schema, header and footer of a Gram file


@dataclass(frozen=True)
class Needs:
    """What the step will need, in bytes.

    Attributes:
        disk: Gram files that are still to be written.
        worker: Memory of one actor with its largest model.
        driver: Memory of the products.
        store: Decoded images, and models on their way, in the object store.
    """

    disk: int
    worker: int
    driver: int
    store: int


@dataclass(frozen=True)
class Room:
    """What is there, in bytes.

    Attributes:
        disk: Free where the run directory is; None where it cannot be known.
        memory: Free on the machine, or of one node of the cluster.
        store: Size of the object store.
        workers: Actors that share the memory.
    """

    disk: int | None
    memory: int
    store: int
    workers: int


def needs_of(
    jobs: Mapping[str, ModelJob], cuts: int, sizes: Sequence[int], config: SimilarityConfig
) -> Needs:
    """Return what the models need for the batches that they lack.

    ``cuts`` are those of all models of the zoo, those that lack nothing included, ``sizes`` the
    images in each batch.
    """
    metric = get_metric(config.metric)
    entry = grams.DTYPES[config.gram_dtype]
    lengths = [vector_length(config.metric, size) for size in sizes]
    disk = sum(
        len(job.graph.cuts) * metric.vectors * lengths[batch] * entry + _FILE
        for job in jobs.values()
        for batch in job.missing
    )
    graphs = [job.graph for job in jobs.values()]
    image = max(job.transform.view.nbytes for job in jobs.values())
    largest = max(_weights(graph) for graph in graphs)
    n = max(sizes)
    worker = max(_activations(graph, n, config.pool) + _weights(graph) for graph in graphs)
    vectors = max(len(graph.cuts) for graph in graphs) * metric.vectors
    worker += vectors * max(lengths) * (4 + 2 * entry) + 4 * n * n * 8
    # A window's images are there twice while they are put into batches.
    images = 2 * max(min(config.window_mb * 1_000_000, sum(sizes) * image), 2 * n * image)
    products = min(second.BUDGET, 3 * cuts * metric.vectors * max(lengths) * 4)
    return Needs(disk, _PROCESS + worker, products, images + 2 * largest)


def room_for(have: Resources, store: RunStore, workers: int) -> Room:
    """Return what the cluster and the run directory's disk have left."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = max(1, have.nodes)
    memory, share = int(total.get("memory", 0)) // nodes, -(-workers // nodes)
    if have.address == "local":
        memory, share = int(psutil.virtual_memory().available), workers
    return Room(_free(store), memory, int(total.get("object_store_memory", 0)), share)


def check(needs: Needs, room: Room) -> None:
    """Raise :class:`UserError` if the needs do not fit, with what would make them fit."""
    if room.disk is not None and needs.disk > room.disk:
        raise UserError(
            f"similarity: the Gram matrices take {gb(needs.disk)} on disk, and {gb(room.disk)} "
            "are free where the run directory is. Lower similarity.fraction or similarity.limit, "
            "lower similarity.batch_size (the space grows with its square, times fewer batches), "
            "set gram_dtype: float16, or give another run directory with --dir."
        )
    memory = needs.worker * room.workers + needs.driver
    if memory > room.memory:
        raise UserError(
            f"similarity: {room.workers} workers of {gb(needs.worker)} each and the products "
            f"({gb(needs.driver)}) take {gb(memory)} of memory, and {gb(room.memory)} are free. "
            "Set similarity.workers to fewer, lower similarity.batch_size, or set pool: avg where "
            "it is none."
        )
    if needs.store > room.store:
        raise UserError(
            f"similarity: decoded images and models on their way take {gb(needs.store)}, and the "
            f"object store of Ray has {gb(room.store)}. Lower similarity.window_mb or "
            "similarity.batch_size, or start Ray with a larger object store."
        )


def say(needs: Needs, room: Room, models: int, calls: int) -> str:
    """Return the needs of so many models and forward passes of batches as one line."""
    free = "" if room.disk is None else f" ({gb(room.disk)} free)"
    return (
        f"similarity: {models} models, {calls} batches to run: {gb(needs.disk)} on disk{free}, "
        f"up to {gb(needs.worker)} a worker ({gb(room.memory)} free), {gb(needs.store)} in the "
        "object store"
    )


def _weights(graph: LineGraph) -> int:
    modules = nn.ModuleList(node.module for node in graph.nodes)  # a shared tensor counts once
    return sum(t.nbytes for t in (*modules.parameters(), *modules.buffers()))


def _activations(graph: LineGraph, samples: int, pooling: str) -> int:
    """Return the bytes of the largest block's tensors, and of the features that are kept."""
    entries = [math.prod(cut.shape) for cut in graph.cuts]
    chunk = min(samples, images_at_once(pooling, samples))
    kept = samples * sum(cut.channels for cut in graph.cuts) if pooling == "avg" else 0
    return 4 * (_COPIES * chunk * max(entries) + kept)


def _free(store: RunStore) -> int | None:
    if not store.is_local:
        return None
    place = Path(store.url)
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    return shutil.disk_usage(there).free
