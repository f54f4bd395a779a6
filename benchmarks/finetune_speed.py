"""The parts of ``finetune.py`` that need no Ray: step, frozen prefix, workers, GPU."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from torch import nn

import zoo_search as zs
from zoo_search.data.preprocess import Preprocess
from zoo_search.training.images import InMemory
from zoo_search.training.machine import HERE, Machine, Workers
from zoo_search.training.schedules import SCHEDULES, Schedule
from zoo_search.training.train import train

ARCH = "tf_efficientnet_lite0"
Row = dict[str, Any]


def random_images(count: int, size: int) -> InMemory:
    """Return random images and labels of ten classes."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    return InMemory(images, torch.arange(count) % 10)


def schedule_of(args: argparse.Namespace, **change: Any) -> Schedule:
    """Return a schedule without augmentation, of a first epoch that is not counted, and rounds."""
    epochs = args.rounds + 1
    plain = replace(SCHEDULES["few-shot"], augment="none", batch_size=args.batch)
    return replace(plain, epochs_full=epochs, epochs_frozen=epochs, **change)


def bare_epoch(
    net: nn.Module, data: InMemory, args: argparse.Namespace, dtype: torch.dtype | None = None
) -> Callable[[], float]:
    """Return an epoch of a loop as timm's ``train.py`` has it, which gives its seconds."""
    device = next(net.parameters()).device
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-4, weight_decay=0.05)
    loss_of = LabelSmoothingCrossEntropy(0.1)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1) * 255
    std = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1) * 255

    def epoch() -> float:
        net.train()
        start = time.perf_counter()
        for index in torch.randperm(len(data)).split(args.batch):
            x = data.images[index].to(device).float().sub_(mean).div_(std)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = loss_of(net(x), data.labels[index].to(device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return epoch


def against_bare(
    make: Callable[[], nn.Module],
    args: argparse.Namespace,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Row:
    """Let epochs of ours and of the bare loop take turns."""
    data = random_images(args.count, args.size)
    ours, theirs = (make().to(device, memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    bare = bare_epoch(theirs, data, args, torch.bfloat16 if precision == "bf16" else None)
    times: list[tuple[float, float]] = []
    train(
        ours, data, num_classes=10, transform=Preprocess((args.size, args.size)),
        schedule=schedule_of(args), protocol="full",
        machine=Machine(torch.device(device), precision),
        on_epoch=lambda point, snapshot: times.append((point.seconds, bare())),
    )  # fmt: skip
    pairs = times[1:]  # the first epoch of each warms up
    return {
        "ours_images_per_second": args.count / statistics.median(a for a, _ in pairs),
        "bare_images_per_second": args.count / statistics.median(b for _, b in pairs),
        "ours_by_bare_seconds": statistics.median(a / b for a, b in pairs),
        "rounds": [round(a / b, 3) for a, b in pairs],
    }


def step(args: argparse.Namespace) -> Row:
    """Ours against the bare loop; to reach: 1.05."""
    torch.manual_seed(0)
    return against_bare(lambda: timm.create_model(ARCH, num_classes=10), args)


def frozen(args: argparse.Namespace) -> Row:
    """FROZEN-TUNING with and without features at hand; to reach: 5 times."""
    torch.manual_seed(0)
    models = {name: timm.create_model(name).eval() for name in (ARCH, "mobilenetv3_small_100")}
    size = args.size
    zoo = {name: zs.trace(model, (3, size, size), name) for name, model in models.items()}
    a, b = zoo.values()
    stop = next(i for i in range(1, len(a)) if a.cuts[i].grid == (size // 16, size // 16))
    start = next(i for i in range(1, len(b)) if b.cuts[i].grid == (size // 16, size // 16))
    recipes = {
        "single model": [(a.name, 0, len(a))],
        "two blocks": [(a.name, 0, stop), (b.name, start, len(b))],
    }
    data, found = random_images(args.count, size), {}
    for name, blocks in recipes.items():
        recipe = {"blocks": [dict(zip(("model", "start", "stop"), x, strict=True)) for x in blocks]}
        seconds = {}
        for how, room in (("anew", 0), ("at hand", 2**32)):
            net = zs.assemble(recipe, zoo, init="random", num_classes=10)
            began = time.perf_counter()
            result = train(
                net, data, num_classes=10, transform=Preprocess((size, size)),
                schedule=schedule_of(args), protocol="frozen",
                machine=replace(HERE, cache_bytes=room),
            )  # fmt: skip
            total = time.perf_counter() - began
            epochs = [point.seconds for point in result.curve[1:]]
            seconds[how] = (statistics.median(epochs), total)
        found[name] = {
            "epoch_seconds": {how: epoch for how, (epoch, _) in seconds.items()},
            "epoch_times_faster": seconds["anew"][0] / seconds["at hand"][0],
            "whole_times_faster": seconds["anew"][1] / seconds["at hand"][1],
            "epochs": args.rounds + 1,
        }
    return found


def workers(args: argparse.Namespace) -> Row:
    """Two workers of a thread against one, at the same batch; to reach: 1.7 times.

    What the machine allows is shown beside: two processes that each train a network of their own.
    """
    found = {name: rate_of(args, *how) for name, how in
             {"one": (1, 1), "two": (2, 1), "two apart": (1, 2)}.items()}  # fmt: skip
    return {
        "images_per_second": found,
        "two_by_one": found["two"] / found["one"],
        "two_apart_by_one": found["two apart"] / found["one"],
    }


def rate_of(args: argparse.Namespace, size: int, groups: int) -> float:
    """Return the images a second of so many groups of workers, all at once."""
    told = json.dumps({**vars(args), "out": None})
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(group) for group in range(groups)]
        processes = []
        for place in places:
            place.mkdir()
            command = [sys.executable, __file__, str(place), str(size), told]
            processes += [subprocess.Popen([*command, str(rank)]) for rank in range(size)]
        ended = [process.wait() for process in processes]
        if any(ended):
            raise RuntimeError("a worker failed")
        return sum(float((place / "rate").read_text(encoding="utf-8")) for place in places)


def one_worker(folder: Path, size: int, args: argparse.Namespace, rank: int) -> None:
    """Train among so many workers; the first writes down the images a second."""
    torch.set_num_threads(1)
    distributed = torch.distributed
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size
    )
    machine = Machine(workers=Workers(rank, size, distributed.group.WORLD))
    torch.manual_seed(0)
    net = timm.create_model(ARCH, num_classes=10).to(memory_format=torch.channels_last)
    result = train(
        net, random_images(args.count, args.size), num_classes=10,
        transform=Preprocess((args.size, args.size)), schedule=schedule_of(args), protocol="full",
        machine=machine,
    )  # fmt: skip
    if rank == 0:
        rate = statistics.median(point.images_per_second for point in result.curve[1:])
        (folder / "rate").write_text(str(rate), encoding="utf-8")
    distributed.destroy_process_group()


def device(args: argparse.Namespace) -> Row:
    """Three networks on a GPU, by precision, against the bare loop; where there is a GPU."""
    if not torch.cuda.is_available():
        return {"device": "no GPU here"}
    found: Row = {"device": torch.cuda.get_device_name()}
    sized = argparse.Namespace(**{**vars(args), "size": 224, "batch": 128, "count": 2048})
    for arch in (ARCH, "resnet50", "vit_small_patch16_224"):
        for precision in ("fp32", "bf16"):
            torch.cuda.reset_peak_memory_stats()
            row = against_bare(
                lambda arch=arch: timm.create_model(arch, num_classes=10),  # type: ignore[misc]
                sized, "cuda", cast("Literal['fp32', 'bf16']", precision),
            )  # fmt: skip
            row["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
            found[f"{arch} {precision}"] = row
    return found


if __name__ == "__main__":
    place, size, told, rank = sys.argv[1:]
    one_worker(Path(place), int(size), argparse.Namespace(**json.loads(told)), int(rank))
