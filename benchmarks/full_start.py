"""Does FULL-TUNING begin where FROZEN-TUNING ended? With renewal, and without.

For the networks of a finished run and for random recipes of its partition: the loss of the first
tenth of FULL-TUNING over that of the last epoch of FROZEN-TUNING, and the accuracies on the test
images, which choose nothing here. ``--png`` draws loss and accuracy of each epoch, both ways.

make demo
python benchmarks/full_start.py runs/digits --recipes 20 --seeds 0 1 2
python benchmarks/full_start.py runs/digits --recipes 0 --seeds 0 --png docs/full_start.png
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo_search.config import JobConfig, read_job
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset
from zoo_search.finetune.entries import Winners
from zoo_search.networks import Recipe
from zoo_search.networks.assemble import assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.renewal import renew
from zoo_search.networks.target_images import load_target
from zoo_search.partitions.result import Partition
from zoo_search.plots.style import FAINT, PALETTE, new_panels, render
from zoo_search.reassembly.costing import open_space
from zoo_search.training.accuracy import Predictions, predict
from zoo_search.training.augment import Augmentation
from zoo_search.training.images import InMemory
from zoo_search.training.machine import HERE
from zoo_search.training.schedules import get_schedule
from zoo_search.training.train import train
from zoo_search.zoo import load_zoo


def recipes_of(job: JobConfig, store: RunStore, zoo: Any, classes: int, count: int) -> list[Recipe]:
    """Return the recipes of a run's networks, and random ones of two models or more."""
    found = {r.recipe.key: r.recipe for r in Winners.read(store).results if r.role != "plain"}
    partition = Partition.load(store.path("partition.json"))
    space = open_space(partition, zoo, classes, job.budget, store)
    drawn = [r for r in space.sample(3 * count, job.seed) if len(r.runs) > 1 and r.key not in found]
    return [*found.values(), *drawn[:count]]


def tuned(
    recipe: Recipe, job: JobConfig, zoo: Any, seed: int, kept: dict[int, Any]
) -> list[dict[str, Any]]:
    """Train a network as the demo does, FULL-TUNING in both ways."""
    if seed not in kept:
        data = open_dataset(job.dataset, seed)
        splits = [data.select(split, seed=seed) for split in ("train", "test")]
        images, labels = load_target(splits[0], zoo)
        fitter = StitchFitter(zoo, images, chained=True)
        kept[seed] = len(data.classes), images, labels, load_target(splits[1], zoo), fitter
    classes, images, labels, test, fitter = kept[seed]
    model = recipe.blocks[0].model
    source, unseen = InMemory(images[model], labels), InMemory(test[0][model], test[1])
    schedule = get_schedule(job.finetune.schedule.name, **job.finetune.schedule.overruled())
    net = assemble(recipe, zoo, "least_squares", None, labels, classes, seed, fitter=fitter)
    net, transform = net.to(memory_format=torch.channels_last), zoo[model].transform  # type: ignore[call-overload]
    given: dict[str, Any] = {
        "num_classes": classes, "transform": transform, "schedule": schedule, "seed": seed,
    }  # fmt: skip

    def judge(one: nn.Module, number: int) -> Predictions:
        return predict(one, unseen, transform)

    frozen = train(net, source, protocol="frozen", judge=judge, **given)
    before, rows = frozen.curve[-1].validation_accuracy, []
    for renewed in (True, False):
        one = copy.deepcopy(net)
        if renewed:
            augment = Augmentation(classes, transform, schedule, "full")
            renew(one, source, augment, HERE, seed)
        full = train(one, source, protocol="full", judge=judge, **given)
        first = full.curve[: max(1, round(len(full.curve) / 10))]
        rows.append(
            {
                "recipe": str(recipe),
                "seed": seed,
                "renewed": renewed,
                "loss": statistics.mean(p.train_loss for p in first) / frozen.curve[-1].train_loss,
                "frozen": before,
                "full": full.curve[-1].validation_accuracy,
                "curve": [
                    [point.train_loss, point.validation_accuracy]
                    for point in (*frozen.curve, *full.curve)
                ],
            }
        )
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return what holds over all networks and seeds."""
    found = {}
    for renewed in (True, False):
        mine = [row for row in rows if row["renewed"] is renewed]
        losses, gains = ([r["loss"] for r in mine], [r["full"] - r["frozen"] for r in mine])
        found["renewed" if renewed else "as it was"] = {
            "networks and seeds": len(mine),
            "median loss over that of FROZEN's end": round(statistics.median(losses), 2),
            "largest": round(max(losses), 2),
            "share below 2": round(sum(loss < 2 for loss in losses) / len(mine), 3),
            "mean FULL accuracy": round(statistics.mean(r["full"] for r in mine), 4),
            "mean gain over FROZEN": round(statistics.mean(gains), 4),
            "ends a point or more below FROZEN": sum(gain < -0.01 for gain in gains),
        }
    return found


def picture(rows: Sequence[dict[str, Any]]) -> bytes:
    """Draw the median of all networks and seeds, and what half of them lie in, by epoch, as PNG."""
    figure, (loss, right) = new_panels(6.4, 5.0, 2)
    for way, (renewed, name) in enumerate([(False, "as it was"), (True, "with renewal")]):
        curves = np.array([row["curve"] for row in rows if row["renewed"] is renewed])
        epochs = np.arange(1, curves.shape[1] + 1)
        for axes, values in ((loss, curves[..., 0]), (right, 100 * curves[..., 1])):
            low, median, high = np.percentile(values, [25, 50, 75], axis=0)
            axes.plot(epochs, median, color=PALETTE[1 - way], label=name)
            axes.fill_between(epochs, low, high, color=PALETTE[1 - way], alpha=0.2, linewidth=0)
    for axes in (loss, right):
        axes.axvline(len(epochs) / 2 + 0.5, color=FAINT)
    loss.set_yscale("log")
    loss.set_ylabel("training loss")
    right.set_ylabel("test images right, %")
    right.set_xlabel("epoch: FROZEN-TUNING, then FULL-TUNING")
    loss.legend(frameon=False)
    return render(figure, "png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all networks; write a line for each as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", help="directory of a finished run")
    parser.add_argument("--recipes", type=int, default=20, help="random ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the rows go, as lines of JSON")
    parser.add_argument("--png", type=Path, help="where a picture of the curves goes")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    store = RunStore(args.run)
    job, rows = read_job(store), []
    zoo = load_zoo(job)
    classes = len(open_dataset(job.dataset, job.seed).classes)
    kept: dict[int, Any] = {}
    recipes = recipes_of(job, store, zoo, classes, args.recipes)
    for number, recipe in enumerate(recipes, start=1):
        for seed in args.seeds:
            for row in tuned(recipe, job, zoo, seed, kept):
                rows.append(row)
                print(f"{number}/{len(recipes)} {json.dumps(row)}", flush=True)
                if args.out:
                    args.out.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    print(json.dumps(summary(rows), indent=1))
    if args.png:
        args.png.write_bytes(picture(rows))


if __name__ == "__main__":
    main()
