"""What the step will take, before it starts: time, memory, disk, and whether that is there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.data.loading import decode_group, quiet_pil
from zoo_search.errors import UserError
from zoo_search.similarity import grams, tiles
from zoo_search.similarity.estimators import get_metric, vector_length
from zoo_search.similarity.extract import CHUNK, Settings, Speed

if TYPE_CHECKING:
    from zoo_search.data.base import Subset
    from zoo_search.engine import Resources
    from zoo_search.linegraph.graph import LineGraph
    from zoo_search.similarity.gather import View
    from zoo_search.similarity.pool import Job
    from zoo_search.store import RunStore

__all__ = [
    "Needs",
    "Room",
    "check",
    "decode_seconds",
    "needs_of",
    "product_seconds",
    "room_for",
    "run_seconds",
    "say",
]

_PROCESS = 1_000_000_000  # a worker that has imported Ray and torch
_COPIES = 6  # tensors of a cut's size that a block holds at its peak, its inner width included
_PART = 1_700  # schema, header and footer of a part
_DECODED = 16  # images that the rate of decoding is measured on
_SIZE = 384  # of the product that measures the rate


@dataclass(frozen=True)
class Needs:
    """What the step will need, in bytes.

    Attributes:
        disk: Gram parts that are still to be written.
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
    """What is there, in bytes; None where it cannot be known.

    Attributes:
        disk: Free where the run directory is.
        memory: Free on the machine, or of one node of the cluster.
        store: Size of the object store.
        workers: Actors that share the memory.
    """

    disk: int | None
    memory: int
    store: int
    workers: int


def needs_of(
    jobs: Mapping[str, Job],
    cuts: int,
    sizes: Sequence[int],
    image: int,
    settings: Settings,
    window: int,
) -> Needs:
    """Return what the jobs need.

    Args:
        jobs: The models, with the batches that they lack.
        cuts: Cuts of all models of the zoo, those that lack nothing included.
        sizes: Images in each batch.
        image: Bytes of the largest decoded image.
        settings: How the models are run.
        window: Bytes of decoded images at once.
    """
    metric = get_metric(settings.metric)
    entry = grams.DTYPES[settings.gram_dtype]
    lengths = [vector_length(settings.metric, size) for size in sizes]
    disk = 0
    for job in jobs.values():
        vectors = len(job.source[0].cuts) * metric.parts
        disk += sum(vectors * lengths[batch] * entry + _PART for batch in job.missing)
    graphs = [job.source[0] for job in jobs.values()]
    largest = max(_weights(graph) for graph in graphs)
    n = max(sizes)
    worker = max(_activations(graph, n, settings) + _weights(graph) for graph in graphs)
    vectors = max(len(graph.cuts) for graph in graphs) * metric.parts
    worker += vectors * max(lengths) * (4 + 2 * entry) + 4 * n * n * 8
    # A window's images are there twice while they are put into batches.
    images = 2 * max(min(window, sum(sizes) * image), 2 * n * image)
    products = min(tiles.BUDGET, 3 * cuts * metric.parts * max(lengths) * 4)
    return Needs(disk, _PROCESS + worker, products, images + 2 * largest)


def room_for(have: Resources, store: RunStore, workers: int) -> Room:
    """Return what the cluster and the run directory's disk have left."""
    import psutil
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if have.address == "local":
        memory, share = int(psutil.virtual_memory().available), workers
    else:
        memory = int(total.get("memory", 0)) // max(1, have.nodes)
        share = -(-workers // max(1, have.nodes))
    return Room(_free(store), memory, int(total.get("object_store_memory", 0)), share)


def check(needs: Needs, room: Room) -> None:
    """Check that the needs fit.

    Raises:
        UserError: If not: says what is needed, what is there, and what would make it fit.
    """
    if room.disk is not None and needs.disk > room.disk:
        raise UserError(
            f"similarity: the Gram matrices take {_gb(needs.disk)} on disk, and {_gb(room.disk)} "
            "are free where the run directory is. Lower similarity.fraction or similarity.limit, "
            "lower similarity.batch_size (the space grows with its square, times fewer batches), "
            "set gram_dtype: float16, or give another run directory with --dir."
        )
    memory = needs.worker * room.workers + needs.driver
    if memory > room.memory:
        raise UserError(
            f"similarity: {room.workers} workers of {_gb(needs.worker)} each and the products "
            f"({_gb(needs.driver)}) take {_gb(memory)} of memory, and {_gb(room.memory)} are free. "
            "Set similarity.workers to fewer, lower similarity.batch_size, or set pool: avg where "
            "it is none."
        )
    if needs.store > room.store:
        raise UserError(
            f"similarity: decoded images and models on their way take {_gb(needs.store)}, and the "
            f"object store of Ray has {_gb(room.store)}. Lower similarity.window_mb or "
            "similarity.batch_size, or start Ray with a larger object store."
        )


def run_seconds(
    jobs: Mapping[str, Job],
    sizes: Sequence[int],
    speeds: Mapping[str, Speed],
    workers: int,
    have: Resources,
    decode: float,
) -> float:
    """Return the seconds of the first pass, from the measured speeds.

    Decoding shares the CPUs with the workers, and goes on beside them where those have GPUs.

    Args:
        jobs: What is to be run.
        sizes: Images in each batch.
        speeds: Of forward passes and Gram matrices, by model.
        workers: Number of actors.
        have: The cluster.
        decode: CPU seconds of decoding.
    """
    total = sum(
        speeds[name].image * sizes[batch] + speeds[name].batch
        for name, job in jobs.items()
        for batch in job.missing
    )
    decoding = decode / max(1, have.cpus)
    return max(total / workers, decoding) if have.gpus else total / workers + decoding


def decode_seconds(subset: Subset, images: Mapping[View, int]) -> float:
    """Return the CPU seconds of decoding so many images a view, measured on a few of the subset."""
    reader, total = subset.reader, 0.0
    for view, count in images.items():
        ids = reader.groups(subset.ids[:_DECODED])[0]
        arguments = (reader, ids, view.size, view.interpolation, view.crop_pct)
        with quiet_pil():
            start = time.perf_counter()
            found = sum(1 for _ in decode_group(*arguments))
        total += (time.perf_counter() - start) / max(1, found) * count
    return total


def product_seconds(cuts: int, sizes: Sequence[int], metric: str) -> float:
    """Return the seconds of the products of all pairs, at the rate of a product measured now."""
    import torch

    x = torch.ones(_SIZE, _SIZE)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        x @ x
        times.append(time.perf_counter() - start)
    rate = _SIZE**3 / max(min(times), 1e-9)
    return sum(cuts**2 * vector_length(metric, size) for size in sizes) / rate


def say(needs: Needs, room: Room, seconds: float, jobs: Mapping[str, Job]) -> str:
    """Return the estimate as one line."""
    calls = sum(len(job.missing) for job in jobs.values())
    free = "" if room.disk is None else f" ({_gb(room.disk)} free)"
    return (
        f"similarity: {len(jobs)} models, {calls} batches to run: about {_duration(seconds)}, "
        f"{_gb(needs.disk)} on disk{free}, up to {_gb(needs.worker)} a worker "
        f"({_gb(room.memory)} free), {_gb(needs.store)} in the object store"
    )


def _weights(graph: LineGraph) -> int:
    seen = {
        id(tensor): tensor.numel() * tensor.element_size()
        for node in graph.nodes
        for tensor in (*node.module.parameters(), *node.module.buffers())
    }
    return sum(seen.values())


def _activations(graph: LineGraph, samples: int, settings: Settings) -> int:
    """Return the bytes of the largest block's tensors, and of the features that are kept."""
    entries = [_entries(cut.shape) for cut in graph.cuts]
    whole = settings.pooling == "none"
    chunk = samples if whole else min(samples, CHUNK)
    kept = 0 if whole else samples * sum(cut.channels for cut in graph.cuts)
    return 4 * (_COPIES * chunk * max(entries) + kept)


def _entries(shape: Sequence[int]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def _free(store: RunStore) -> int | None:
    if not store.is_local:
        return None
    place = Path(store.url)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
