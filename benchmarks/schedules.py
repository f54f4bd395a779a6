"""Which schedule for few images, and which weights? Measured on networks of a finished run.

For each network and each fold (a fifth of the training images is held out): FROZEN-TUNING with and
without augmentation, FULL-TUNING from its end with one value of the schedule changed, weights
between the start and the end of FULL-TUNING (WiSE-FT, Wortsman et al. 2022), and what different
rules would have kept of the weights after each epoch. The rules see the images held out; the
accuracies are those on 600 test images, which choose nothing.

make demo
python benchmarks/schedules.py runs/digits --recipes 6 --seeds 0 1 --out schedules.jsonl
python benchmarks/schedules.py --summary schedules.jsonl
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from full_start import recipes_of
from torch import nn

from zoo_search.config import read_job
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset
from zoo_search.networks.assemble import assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.renewal import renew
from zoo_search.networks.target_images import load_target
from zoo_search.training.accuracy import predict
from zoo_search.training.augment import Augmentation
from zoo_search.training.choice import clearly_worse
from zoo_search.training.images import InMemory
from zoo_search.training.machine import HERE
from zoo_search.training.schedules import Schedule, get_schedule
from zoo_search.training.train import train
from zoo_search.zoo import load_zoo

Row = dict[str, Any]
FOLDS, TEST_IMAGES = 5, 600
BASE = "as it is"
CHANGES: dict[str, dict[str, Any]] = {
    "half of the rate": {"lr_full": 1e-3},
    "twice the rate": {"lr_full": 4e-3},
    "batches of 32": {"batch_size": 32},
    "batches of 32, twice the rate": {"batch_size": 32, "lr_full": 4e-3},
    "mean of the weights (EMA, 0.95)": {"ema": 0.95},
    "25 epochs": {"epochs_full": 25},
}


class Networks:
    """The networks of a run, each as it starts from a fold, and what judges them."""

    def __init__(self, run: str, recipes: int) -> None:
        store = RunStore(run)
        self.job = read_job(store)
        self.zoo = load_zoo(self.job)
        data = open_dataset(self.job.dataset, self.job.seed)
        self.train_set = data.select("train", seed=self.job.seed)
        self.classes = len(data.classes)
        test = data.select("test", seed=self.job.seed).first(TEST_IMAGES)
        self.test, self.test_labels = load_target(test, self.zoo)
        self.recipes = recipes_of(self.job, store, self.zoo, self.classes, recipes)

    def rows(self, number: int, seed: int) -> Iterator[Row]:
        """Train one network in all ways; yield a row for each set of weights that is looked at."""
        recipe = self.recipes[number]
        model = recipe.blocks[0].model
        transform = self.zoo[model].transform
        left, held = self.train_set.folds(FOLDS, self.job.seed)[seed % FOLDS]
        images, labels = load_target(left, self.zoo)
        judged, judged_labels = load_target(held, self.zoo)
        validation = InMemory(judged[model], judged_labels)
        test = InMemory(self.test[model], self.test_labels)
        learned = InMemory(images[model], labels)
        fitter = StitchFitter(self.zoo, images, chained=True)
        start = assemble(
            recipe, self.zoo, "least_squares", None, labels, self.classes, seed, fitter=fitter
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def row(net: nn.Module, way: str, epoch: int = -1, seconds: float = 0.0) -> Row:
            found = predict(net, validation, transform)
            right = "".join(map(str, found.right.astype(int).tolist()))
            told = {"recipe": str(recipe), "number": number, "seed": seed, "way": way}
            accuracy = predict(net, test, transform).accuracy
            return {
                **told,
                "epoch": epoch,
                "seconds": seconds,
                "right": right,
                "loss": found.loss,
                "test": accuracy,
            }

        def trained(net: nn.Module, schedule: Schedule, protocol: Any, each: Any) -> float:
            begun = time.perf_counter()
            train(
                net, learned, num_classes=self.classes, transform=transform, schedule=schedule,
                protocol=protocol, seed=seed, on_epoch=each,
            )  # fmt: skip
            return time.perf_counter() - begun

        base = get_schedule("few-shot")
        yield row(start, "start")
        for augment in ("light", "none"):
            net, first = copy.deepcopy(start), replace(base, augment_frozen=augment)
            seconds = trained(net, first, "frozen", _nothing)
            yield row(net, f"frozen, {augment}", seconds=seconds)
            for name, change in {BASE: {}, **(CHANGES if augment == "light" else {})}.items():
                one, schedule = copy.deepcopy(net), replace(first, **change)
                renew(
                    one,
                    learned,
                    Augmentation(self.classes, transform, schedule, "full"),
                    HERE,
                    seed,
                )
                before, rows = copy.deepcopy(one.state_dict()), []

                def each(
                    point: Any, snapshot: Any, one: Any = one, rows: Any = rows, way: str = augment
                ) -> None:
                    rows.append(row(one, f"epoch, {way}", point.epoch))

                seconds = trained(one, schedule, "full", each if name == BASE else _nothing)
                yield from rows
                yield row(one, f"{name}, {augment}", seconds=seconds)
                if name == BASE:
                    end = one.state_dict()
                    for share in (0.5, 0.75):
                        mixed = copy.deepcopy(one)
                        mixed.load_state_dict(
                            {
                                key: torch.lerp(before[key], value, share)
                                if value.is_floating_point()
                                else value
                                for key, value in end.items()
                            }
                        )
                        yield row(mixed, f"{share:.0%} of the way, {augment}")


def _nothing(point: Any, snapshot: Any) -> None:
    """Hear of an epoch."""


def kept_by(rule: str, rows: Sequence[Row]) -> float:
    """Return the test accuracy of the weights that a rule keeps of those that follow each other."""
    best: Any = None
    kept = rows[0]
    for row in rows:
        right = np.asarray([c == "1" for c in row["right"]])
        if rule == "the last":
            kept = row
        elif rule == "the lowest loss":
            if best is None or row["loss"] <= best:
                best, kept = row["loss"], row
        elif best is None or right.mean() >= best.mean():
            best, kept = right, row
        elif rule == "within one standard error":
            gap = best.astype(float) - right
            if gap.mean() <= gap.std(ddof=1) / math.sqrt(len(gap)) * (1 + 1e-9):
                kept = row
        elif rule == "not clearly worse" and not clearly_worse(right, best):
            kept = row
    return float(kept["test"])


RULES = (
    "the last",
    "the highest accuracy",
    "the lowest loss",
    "within one standard error",
    "not clearly worse",
)


def summary(rows: Sequence[Row]) -> None:
    """Print what each way gives, against FULL-TUNING as it is, over networks and folds."""
    by: dict[tuple[int, int], dict[tuple[str, int], Row]] = defaultdict(dict)
    for row in rows:
        by[row["number"], row["seed"]][row["way"], row["epoch"]] = row
    last = ("75% of the way, none", -1)
    cases = [found for found in by.values() if last in found]
    print(f"{len(cases)} networks and folds; accuracy on {TEST_IMAGES} test images")
    base = [case[f"{BASE}, light", -1]["test"] for case in cases]

    def line(name: str, values: Sequence[float], more: str = "") -> None:
        gaps = [100 * (v - b) for v, b in zip(values, base, strict=True)]
        error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
        mean = 100 * statistics.mean(values)
        print(
            f"{name:40s} {mean:5.1f} %  lowest {100 * min(values):5.1f}  against as it is "
            f"{statistics.mean(gaps):+5.2f} (standard error {error:.2f}, worst {min(gaps):+5.1f})"
            f"{more}"
        )

    for way in [way for way, epoch in cases[0] if epoch < 0]:
        seconds = statistics.mean(case[way, -1]["seconds"] for case in cases)
        line(way, [case[way, -1]["test"] for case in cases], f"  {seconds:4.1f} s")
    for augment in ("light", "none"):
        epochs = max(epoch for _, epoch in cases[0])
        for rule in RULES:
            found = [
                kept_by(
                    rule,
                    [
                        case["start", -1],
                        case[f"frozen, {augment}", -1],
                        *(case[f"epoch, {augment}", n] for n in range(1, epochs + 1)),
                    ],
                )
                for case in cases
            ]
            line(f"kept: {rule}, {augment}", found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all networks, or tell what is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", nargs="?", help="directory of a finished run")
    parser.add_argument("--recipes", type=int, default=6, help="random ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of folds, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="lines of JSON; what is there is not made again")
    parser.add_argument("--summary", type=Path, help="such a file; nothing is trained")
    args = parser.parse_args(arguments)
    known = args.summary or args.out
    rows = (
        [json.loads(r) for r in known.read_text("utf-8").splitlines()]
        if known and known.exists()
        else []
    )
    if args.summary is None:
        torch.set_num_threads(args.threads)
        networks = Networks(args.run, args.recipes)
        done = {(row["number"], row["seed"]) for row in rows}
        for number in range(len(networks.recipes)):
            for seed in args.seeds:
                if (number, seed) in done:
                    continue
                made = list(networks.rows(number, seed))
                rows += made
                print(
                    f"{number + 1}/{len(networks.recipes)}, seed {seed}: {made[0]['recipe']}",
                    flush=True,
                )
                if args.out:
                    with args.out.open("a", encoding="utf-8") as file:
                        file.writelines(json.dumps(row) + "\n" for row in made)
    summary(rows)


if __name__ == "__main__":
    main()
