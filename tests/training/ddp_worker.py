"""One of several processes that train a network together; run by test_machine."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from small_net import TRANSFORM, digits, make_net

from zoo_search.training.accuracy import accuracy, predict
from zoo_search.training.machine import ALONE, Machine, Workers
from zoo_search.training.schedules import SCHEDULES
from zoo_search.training.train import train

VARIANTS: dict[str, dict[str, Any]] = {
    "light": {},
    "mixed": {"mixup": 0.8, "cutmix": 1.0, "ema": 0.9},
    "cached": {"augment_frozen": "none"},
    "norm": {},
}


def curves(workers: Workers) -> dict[str, Any]:
    """Train each variant by both protocols; return losses and accuracies."""
    told: dict[str, Any] = {}
    for name, change in VARIANTS.items():
        net, images = make_net(norm=name == "norm"), digits(100)
        schedule = replace(
            SCHEDULES["few-shot"], epochs_frozen=2, epochs_full=2, batch_size=15, **change
        )
        machine = Machine(torch.device("cpu"), workers=workers)
        for protocol in ("frozen", "full"):
            result = train(
                net, images, num_classes=10, transform=TRANSFORM, schedule=schedule,
                protocol=cast("Any", protocol), machine=machine,
                judge=lambda net, epoch, at=images, machine=machine: predict(
                    net, at, TRANSFORM, machine=machine
                ),
            )  # fmt: skip
            told[f"{name} {protocol}"] = [
                [p.train_loss, p.train_accuracy, p.validation_accuracy, p.validation_loss]
                for p in result.curve
            ]
        told[f"{name} end"] = accuracy(net, images, TRANSFORM, machine=machine)
        told[f"{name} buffers"] = [float(b.double().norm()) for b in net.buffers()]
        told[f"{name} weights"] = [float(p.detach().double().norm()) for p in net.parameters()]
    return told


if __name__ == "__main__":
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size
    )
    told = curves(Workers(rank, size, torch.distributed.group.WORLD) if size > 1 else ALONE)
    (folder / f"{rank}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()
