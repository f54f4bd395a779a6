"""Part 4 of ``similarity.py``: time and disk as the zoo and the images grow."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_search.config import SimilarityConfig, ZooEntry
from zoo_search.data.base import VisionDataset
from zoo_search.data.preprocess import Preprocess
from zoo_search.data.sources.arrays import ArrayReader
from zoo_search.zoo.models import ZooModel

SIZE = 32


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Part 4: every number of models with every number of images, each from nothing."""
    from zoo_search import cluster
    from zoo_search.core.store import RunStore
    from zoo_search.similarities.step import ARTIFACT, compute

    have = cluster.connect("local")
    print(f"part 4: {have.cpus} CPUs, tiny models, batches of 256")
    data = noise(max(args.growth_images))
    config = SimilarityConfig(batch_size=256)
    zoo = tiny_zoo(max(args.growth_models))
    cuts = len(zoo["m0"].graph.cuts)
    rows = []
    for images in args.growth_images:
        for models in args.growth_models:
            part = {name: zoo[name] for name in list(zoo)[:models]}
            folder = Path(tempfile.mkdtemp(prefix="growth-"))
            try:
                subset, store = data.select(limit=images), RunStore(folder)
                start = time.perf_counter()
                made = compute(part, subset, config, 0, store)
                whole = time.perf_counter() - start
                facts = [path.stat() for path in (folder / "grams").rglob("*.parquet")]
                store.remove(ARTIFACT)
                start = time.perf_counter()
                compute(part, subset, config, 0, store)
                products = time.perf_counter() - start
            finally:
                shutil.rmtree(folder)
            # From the first part to the last one: without the start of the workers.
            times = [fact.st_mtime for fact in facts]
            extraction = (max(times) - min(times)) * len(times) / (len(times) - 1)
            row = {
                "models": models,
                "images": images,
                "cuts": models * cuts,
                "extraction_s": extraction,
                "products_s": products,
                "start_s": whole - products - extraction,
                "disk_mb": sum(fact.st_size for fact in facts) / 1e6,
                "forwards": sum(made.forwards.values()),
                "products": made.products,
            }
            rows.append(row)
            print("  " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    if args.plot:
        draw(rows, args.plot)
    return {"rows": rows}


def tiny_zoo(count: int) -> dict[str, ZooModel]:
    """Return models that differ in their weights only."""
    import timm
    import torch

    zoo = {}
    for index in range(count):
        torch.manual_seed(index)
        module = timm.create_model(
            "vit_tiny_patch16_224", img_size=SIZE, patch_size=16, embed_dim=48, depth=7, num_heads=3
        ).eval()
        entry, name = ZooEntry(arch="vit_tiny_patch16_224"), f"m{index}"
        transform = Preprocess((SIZE, SIZE))
        zoo[name] = ZooModel(name, entry, module, transform, "vit", None, name, "")
    return zoo


def noise(count: int) -> VisionDataset:
    """Return images of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    ids = [f"noise/{i:06d}" for i in range(count)]
    columns = {"id": ids, "label": pa.array([0] * count, pa.int32()), "split": ["train"] * count}
    return VisionDataset("noise", ("noise",), "noise", pa.table(columns), ArrayReader(pixels))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw seconds of both passes and the disk over models times images."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    kinds = (
        ("extraction_s", "first pass: forward and Gram (s)"),
        ("products_s", "second pass: products (s)"),
        ("disk_mb", "Gram parts on disk (MB)"),
    )
    for axis, (key, title) in zip(axes, kinds, strict=True):
        for images in sorted({row["images"] for row in rows}):
            line = [(row["models"], row[key]) for row in rows if row["images"] == images]
            axis.plot(*zip(*line, strict=True), "o-", label=f"{images:,} images")
        axis.set(xscale="log", yscale="log", xlabel="models", title=title)
        ticks = sorted({row["models"] for row in rows})
        axis.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
