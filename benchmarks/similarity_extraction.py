"""Part 3 of ``similarity.py``: images to Gram files against a bare loop ``model(batch)``.

The measured code is the actor's own, called without Ray, so that it runs wherever torch, timm and
pyarrow are. Both take turns on batches of the same decoded images; with ``--ray`` the whole pool
of actors takes turns with the bare loop too. Decode, transfer and forward are timed apart.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zoo_search.config import SimilarityConfig
from zoo_search.data.preprocess import Preprocess
from zoo_search.linegraph import LineGraph, trace
from zoo_search.similarities.estimators.features import evaluating, images_at_once
from zoo_search.similarities.estimators.registry import get_metric
from zoo_search.similarities.passes.extract import Extractor, ModelJob

Images = npt.NDArray[np.uint8]
CHUNK = images_at_once("avg", 0)


def decode(file: bytes, size: int) -> Images:
    """Decode as the data sets do; written out, since this part runs without their libraries."""
    from PIL import Image

    image = Image.open(io.BytesIO(file)).convert("RGB")
    resized = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def photographs(count: int, size: int) -> list[bytes]:
    """Return JPEG files: smooth noise, twice the size that the models see."""
    from PIL import Image

    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        stream = io.BytesIO()
        small.resize((2 * size, 2 * size), Image.Resampling.BICUBIC).save(stream, "JPEG")
        files.append(stream.getvalue())
    return files


def extraction(args: argparse.Namespace) -> dict[str, Any]:
    """Part 3, one row an architecture."""
    import timm

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"part 3: {where}, {args.batch} images a batch, {args.size} pixels, {args.precision}")
    files = photographs(min(args.batch, 128), args.size)
    start = time.perf_counter()
    decoded = np.stack([decode(file, args.size) for file in files])
    decode_rate = len(files) / (time.perf_counter() - start)
    images = np.concatenate([decoded] * -(-args.batch // len(files)))[: args.batch]
    rows = []
    for arch in args.archs:
        torch.manual_seed(0)
        model = timm.create_model(arch, **_sized(arch, args.size)).eval()
        graph = trace(model, (3, args.size, args.size), arch)
        row = {"arch": arch, "cuts": len(graph.cuts), "decode_per_core": decode_rate}
        row |= one_model(model, graph, images, device, args)
        if args.ray:
            row["of_bare_with_ray"] = with_ray(model, graph, images, args)
        rows.append(row)
        print("  " + ", ".join(f"{k} {v:.4g}" if k != "arch" else str(v) for k, v in row.items()))
    return {"device": where, "batch": args.batch, "size": args.size, "rows": rows}


def one_model(
    model: nn.Module,
    graph: LineGraph,
    images: Images,
    device: torch.device,
    args: argparse.Namespace,
) -> dict[str, float]:
    """Time the bare loop and the actor's way on the same batch, in turns."""
    transform = Preprocess((args.size, args.size))
    actor = Extractor(SimilarityConfig(precision=args.precision), get_metric("cka"), args.threads)
    actor.hold(graph.name, graph, transform)  # on CUDA: moves the modules, channels last
    model.to(device)
    ids = [str(i) for i in range(len(images))]
    on_device = [_chunk(images, start, device) for start in range(0, len(images), CHUNK)]
    work: dict[str, Callable[[], Any]] = {
        "bare": lambda: bare_loop(model, images, transform, device, args.precision),
        "ours": lambda: actor.gram_file("", 0, ids, images),
        "transfer": lambda: [_chunk(images, s, device) for s in range(0, len(images), CHUNK)],
        "forward": lambda: _forward(model, on_device, transform, device, args.precision),
        "nodes": lambda: _forward(graph.features, on_device, transform, device, args.precision),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    with evaluating(graph):
        for turn in range(args.repeats + 1):
            for name, call in work.items():
                took = _seconds(call, device)
                if turn:  # the first turn warms caches
                    times[name].append(took)
    rates = {name: len(images) / statistics.median(found) for name, found in times.items()}
    ratios = [bare / ours for bare, ours in zip(times["bare"], times["ours"], strict=True)]
    return {
        **{f"{name}_images_s": rate for name, rate in rates.items()},
        "of_bare": statistics.median(ratios),
    }


def with_ray(model: nn.Module, graph: LineGraph, images: Images, args: argparse.Namespace) -> float:
    """Return the pool's images per second over the bare loop's, which has all cores as well."""
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default Ray's workers give way
    import ray

    from zoo_search import cluster
    from zoo_search.cluster.hosts import Hosts
    from zoo_search.similarities.passes.first import run_windows, start_pool
    from zoo_search.similarities.passes.images import ImageBatch

    have = cluster.connect("local")
    transform = Preprocess((args.size, args.size))
    count = 2 * have.cpus
    job = {graph.name: ModelJob(graph, transform, "", range(count))}
    hosts = Hosts()
    config = SimilarityConfig(precision=args.precision)
    pool = start_pool(hosts, have.gpus or have.cpus, job, config, get_metric("cka"))
    ids = [str(i) for i in range(len(images))]
    batches = [ImageBatch(i, ids, ray.put(images)) for i in range(count)]
    # Starts the processes, loads the model.
    list(run_windows(pool, job, iter([batches[: len(pool)]])))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(have.cpus)
    ratios = []
    for _ in range(args.repeats):
        ours = _seconds(lambda: list(run_windows(pool, job, iter([batches]))), device)
        bare = [
            _seconds(lambda: bare_loop(model, images, transform, device, args.precision), device)
            for _ in range(count)
        ]
        ratios.append(sum(bare) / ours)
    torch.set_num_threads(before)
    pool.close()
    hosts.close()
    return statistics.median(ratios)


def bare_loop(
    model: nn.Module,
    images: Images,
    transform: Preprocess,
    device: torch.device,
    precision: str,
) -> None:
    """Do what anyone would: to the device, normalise, ``model(batch)``; nothing is kept."""
    bf16 = precision == "bf16"
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(images), CHUNK):
            x = transform.normalize(_chunk(images, start, device))
            if device.type == "cuda":
                x = x.to(memory_format=torch.channels_last)
            model(x)


def _forward(
    model: Callable[[torch.Tensor], torch.Tensor],
    chunks: list[torch.Tensor],
    transform: Preprocess,
    device: torch.device,
    precision: str,
) -> None:
    bf16 = precision == "bf16"
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for chunk in chunks:
            model(transform.normalize(chunk))


def _chunk(images: Images, start: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(images[start : start + CHUNK]).to(device)


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _sized(arch: str, size: int) -> dict[str, Any]:
    return {"img_size": size} if "vit" in arch else {}
