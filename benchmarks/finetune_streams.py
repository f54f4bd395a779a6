"""The parts of ``finetune.py`` on Ray: streaming, the start, memory."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import timm
import torch
from finetune_speed import Row, schedule_of
from PIL import Image
from safetensors.torch import save_file

from zoo_search import cluster
from zoo_search.config import DatasetConfig, load_job
from zoo_search.core.progress import Bar
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset
from zoo_search.data.preprocess import Preprocess
from zoo_search.finetune import step as finetune_step
from zoo_search.finetune import tuning
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.images.streaming import streamed
from zoo_search.networks import Recipe
from zoo_search.training.images import InMemory
from zoo_search.training.pictures import PictureAugment
from zoo_search.training.train import train
from zoo_search.zoo import load_zoo

_DISTINCT = 1000
WORKER = (
    "import ray.train.torch, torch; from zoo_search.core.imports import import_timm; import_timm()"
)


def jpegs(folder: Path, count: int) -> Path:
    """Write JPEG files of 256 pixels, ten classes; beyond a thousand they are links to these."""
    draw = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class{number % 10}" / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        if number < _DISTINCT:
            small = Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            small.resize((256, 256), Image.Resampling.BICUBIC).save(place, quality=90)
        else:
            first = number % _DISTINCT
            os.link(folder / f"class{first % 10}" / f"{first:06d}.jpg", place)
    return folder


def whole(args: argparse.Namespace) -> Row:
    """One core decodes, the other trains; to reach: 1.15 times the slower of the two alone."""
    found: Row = {}
    cluster.connect("local", num_cpus=2)
    with tempfile.TemporaryDirectory() as place:
        data = open_dataset(DatasetConfig(name="folder", path=str(jpegs(Path(place), args.count))))
        selection = data.select("train")
        for arch in ("tf_efficientnet_lite0", "mobilenetv3_small_050"):
            transform = Preprocess((args.size, args.size))
            source = streamed(selection, transform.view, PictureAugment(transform, 0.5, 0.25))
            kept = selection.load(transform.view)
            order = [np.arange(i, min(i + args.batch, len(source)))
                     for i in range(0, len(source), args.batch)]  # fmt: skip
            rates: dict[str, list[float]] = defaultdict(list)
            for number in range(args.rounds):
                began = time.perf_counter()
                for _ in source.read(order, f"alone {number}"):
                    pass
                rates["decode"].append(len(source) / (time.perf_counter() - began))
                for how, images, augment in (
                    ("train", InMemory(kept.images, kept.labels), "none"),
                    ("whole", source, "rand_augment"),
                ):
                    net = timm.create_model(arch, num_classes=10)
                    net = net.to(memory_format=torch.channels_last)
                    one = argparse.Namespace(**{**vars(args), "rounds": 1})
                    result = train(
                        net, images, num_classes=10, transform=transform,
                        schedule=schedule_of(one, augment=augment), protocol="full",
                    )  # fmt: skip
                    rates[how].append(result.curve[-1].images_per_second)
            rate = {how: statistics.median(values) for how, values in rates.items()}
            slower = min(rate["decode"], rate["train"])
            found[arch] = {"images_per_second": rate, "whole_by_slower": slower / rate["whole"]}
    cluster.disconnect()
    return found


def _job(folder: Path, archs: list[str], size: int, dataset: dict[str, Any], **tune: Any) -> Any:
    """Return a run file with models of random weights, and their recipes."""
    zoo = {}
    for number, arch in enumerate(archs):
        torch.manual_seed(number)
        save_file(timm.create_model(arch).state_dict(), folder / f"{number}.safetensors")
        zoo[f"m{number}"] = {"arch": arch, "weights": str(folder / f"{number}.safetensors")}
    once = {"seeds": 1, "validation": 0.0, **tune}
    job = {"name": "x", "input_size": size, "zoo": zoo, "dataset": dataset, "finetune": once}
    return load_job(job)


def _tune(job: Any, store: RunStore) -> None:
    zoo = load_zoo(job)
    entries = [
        Entry(name, "reassembly", Recipe.whole(name, len(model.graph)))
        for name, model in zoo.items()
    ]
    data = open_dataset(job.dataset, job.seed)
    finetune_step.run(entries, zoo, data, job, store)


def start(args: argparse.Namespace) -> Row:
    """Until the first step is heard of; to reach: twice the imports, whatever the networks."""
    found: Row = {}
    cluster.connect("local", num_cpus=2)
    heard: list[float] = []
    Bar.under_way = lambda self, name, work: heard.append(time.perf_counter())  # type: ignore[method-assign]
    began: list[float] = []
    train_all = tuning.train_all

    def timed(*told: Any) -> Any:
        began.append(time.perf_counter())
        return train_all(*told)

    tuning.train_all = timed
    dataset = {"name": "digits", "per_class": 10}
    for networks in (1, 4):
        bare = time.perf_counter()
        # As many at once as there are workers: they import side by side, too.
        command = [sys.executable, "-c", WORKER]
        imports = [subprocess.Popen(command) for _ in range(min(2, networks))]
        for process in imports:
            process.wait()
        bare = time.perf_counter() - bare
        with tempfile.TemporaryDirectory() as place:
            archs = ["mobilenetv3_small_050"] * networks
            job = _job(Path(place), archs, 32, dataset, epochs=40, protocol=["full"])
            heard.clear()
            began.clear()
            _tune(job, RunStore(Path(place) / "run"))
            ended = time.perf_counter()
        found[f"{networks} networks"] = {
            "imports_seconds": bare,
            "first_step_seconds": heard[0] - began[0],
            "first_step_by_imports": (heard[0] - began[0]) / bare,
            "all_seconds": ended - began[0],
        }
    tuning.train_all = train_all
    cluster.disconnect()
    return found


MARKS = {
    "RayTrainWorker": "training worker",
    "ray::MapBatches": "decoding worker",
    "raylet/raylet": "raylet",
    "gcs_server": "gcs server",
}


@contextmanager
def watched(peaks: dict[str, float]) -> Iterator[None]:
    """Note the largest memory of each kind of process, in MB, without what they share."""
    done, driver = threading.Event(), psutil.Process()

    def look() -> None:
        while not done.wait(0.5):
            for process in [driver, *driver.children(recursive=True)]:
                try:
                    title = " ".join(process.cmdline())
                    facts = process.memory_info()
                except psutil.Error:
                    continue
                role = next((name for mark, name in MARKS.items() if mark in title), "other")
                role = "driver" if process.pid == driver.pid else role
                peaks[role] = max(peaks.get(role, 0.0), (facts.rss - facts.shared) / 1e6)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def memory(args: argparse.Namespace) -> Row:
    """Images through one epoch, none of them kept; to reach: 2 GB, whatever their number."""
    found: Row = {}
    for count in args.images:
        cluster.connect("local", num_cpus=2)
        with tempfile.TemporaryDirectory() as place:
            folder = jpegs(Path(place) / "images", count)
            dataset = {"name": "folder", "path": str(folder), "fraction": 1.0}
            job = _job(
                Path(place), ["mobilenetv3_small_050"], 64, dataset,
                epochs=1, protocol=["full"], batch_size=256, keep_decoded=0,
            )  # fmt: skip
            peaks: dict[str, float] = {}
            began = time.perf_counter()
            with watched(peaks):
                _tune(job, RunStore(Path(place) / "run"))
            found[count] = {
                "peak_mb": {role: round(peak) for role, peak in sorted(peaks.items())},
                "seconds": time.perf_counter() - began,
            }
            print(f"  {count} images: {found[count]}", flush=True)
        cluster.disconnect()
    return found
