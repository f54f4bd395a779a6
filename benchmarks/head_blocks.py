"""A head on what every block gives against one on the last block, before fine-tuning and after it.

For targets of the proof benchmark (:mod:`winners_jobs`): the zoo models within the budget and
recipes of two models or more, drawn uniformly, each under both heads. Stitches and heads are fitted
to so many labelled images a class, others for each seed; the test images judge. The two heads of a
network stand on the same blocks and stitches, so that differences are paired. With ``--train`` both
networks then go through FROZEN- and FULL-TUNING as in a run, on all of these images, and the test
images judge the end of each.

python benchmarks/head_blocks.py --targets mnist-5 mnist-20 digits-20 --out head_blocks.jsonl
python benchmarks/head_blocks.py --targets mnist-20 --budget small --train --out head_trained.jsonl
python benchmarks/head_blocks.py --summary head_blocks.jsonl

Goes on with what is missing of ``--out``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from winners_data import register
from winners_jobs import BUDGETS, TARGETS, job_of

import zoo_search as zs
from zoo_search.config import load_job
from zoo_search.core.files import cache_folder
from zoo_search.costs import CostTable
from zoo_search.data import View, open_dataset
from zoo_search.networks import Recipe, assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.parents import Parents
from zoo_search.networks.renewal import renew
from zoo_search.networks.target_images import load_target
from zoo_search.reassembly.costing import budget_of
from zoo_search.reassembly.space import make_space
from zoo_search.training.accuracy import predict
from zoo_search.training.augment import Augmentation
from zoo_search.training.images import InMemory
from zoo_search.training.machine import HERE
from zoo_search.training.schedules import get_schedule
from zoo_search.training.train import train

Row = dict[str, Any]
HEADS = ("last", "blocks")


def measure(target: str, args: argparse.Namespace, known: Sequence[Row]) -> Iterator[Row]:
    """Yield the accuracy of each network on the test images, for each seed, under both heads.

    But for those that are known.
    """
    done = {(row["target"], row["seed"], row["recipe"]) for row in known}
    draws = args.draws
    job = load_job(job_of(target, args.budget, 1, args.data, {}))
    zs.zoo.pretrain(job)
    zoo = zs.load_zoo(job)
    dataset = open_dataset(job.dataset, job.seed)
    classes, config = len(dataset.classes), job.partition
    size = job.input_size or 224
    seen = dataset.select("train", limit=job.similarity.limit, seed=job.seed)
    table = zs.similarity(zoo, seen.load(View((size, size))).images, "cka", 100)
    cut = zs.partition(table, 4, config.eps, config.restarts, config.method, job.seed)
    costs = CostTable(dict(Parents(zoo)), classes)
    space = make_space(cut, costs, budget_of(job.budget), taps="blocks")
    drawn = [r for r in space.sample(4 * draws, job.seed) if len(r.models) > 1][:draws]
    test, answers = load_target(dataset.select("test", limit=args.judged, seed=job.seed), zoo)
    for seed in args.seeds:
        labelled = open_dataset(job.dataset, seed).select("train", seed=seed)
        images, labels = load_target(labelled, zoo)
        fitter = StitchFitter(zoo, images, chained=True)
        for kind, recipes in (("single", space.zoo), ("random", drawn)):
            for recipe in recipes:
                row: Row = {"target": target, "seed": seed, "kind": kind, "recipe": str(recipe)}
                if (target, seed, str(recipe)) in done:
                    continue
                first = recipe.blocks[0].model
                transform, unseen = zoo[first].transform, InMemory(test[first], answers)
                for head in HEADS:
                    own = Recipe(recipe.blocks, "target", "blocks" if head == "blocks" else "last")
                    net = assemble(
                        own, zoo, "least_squares", None, labels, classes, seed, fitter=fitter,
                        copy_blocks=args.train,
                    )  # fmt: skip
                    found = predict(net, unseen, transform)
                    row[head] = {"accuracy": found.accuracy, "loss": found.loss}
                    row[head] |= {"params": costs.cost(own).params}
                    if args.train:
                        source = InMemory(images[first], labels)
                        row[head] |= trained(net, source, unseen, transform, classes, seed)
                yield row


def trained(
    net: Any, source: InMemory, unseen: InMemory, transform: Any, classes: int, seed: int
) -> dict[str, float]:
    """Return the accuracy at the end of each protocol, each in a run's own way."""
    net, schedule = net.to(memory_format=torch.channels_last), get_schedule("few-shot")
    given: dict[str, Any] = {
        "num_classes": classes, "transform": transform, "schedule": schedule, "seed": seed,
    }  # fmt: skip
    found = {}
    for protocol in ("frozen", "full"):
        if protocol == "full":
            renew(net, source, Augmentation(classes, transform, schedule, "full"), HERE, seed)
        train(net, source, protocol=protocol, **given)
        found[protocol] = predict(net, unseen, transform).accuracy
    return found


def summary(rows: Sequence[Row]) -> None:
    """Print a line for each target, kind and moment: means over networks, and paired differences.

    The interval is that of the mean over networks, each one's difference averaged over the seeds.
    """
    print(
        f"{'target':10s} {'kind':7s} {'at':8s} {'networks':>8s} {'seeds':>5s} {'last':>7s} "
        f"{'blocks':>7s} {'difference':>18s} {'best last':>10s} {'best blocks':>11s} {'loss':>6s} "
        f"{'loss':>6s}"
    )
    moments = [at for at in ("accuracy", "frozen", "full") if all(at in r["last"] for r in rows)]
    cases = dict.fromkeys((row["target"], row["kind"]) for row in rows)
    for (target, kind), at in itertools.product(cases, moments):
        mine = [row for row in rows if (row["target"], row["kind"]) == (target, kind)]
        names = list(dict.fromkeys(row["recipe"] for row in mine))

        def means(head: str, what: str, names: Any = names, mine: Any = mine) -> list[float]:
            return [
                statistics.mean(row[head][what] for row in mine if row["recipe"] == name)
                for name in names
            ]

        last, blocks = means("last", at), means("blocks", at)
        apart = [100 * (b - a) for a, b in zip(last, blocks, strict=True)]
        half = 1.96 * statistics.stdev(apart) / math.sqrt(len(apart))
        losses = [statistics.mean(means(head, "loss")) for head in HEADS]
        print(
            f"{target:10s} {kind:7s} {'start' if at == 'accuracy' else at:8s} {len(names):8d} "
            f"{len({r['seed'] for r in mine}):5d} "
            f"{statistics.mean(last):7.1%} {statistics.mean(blocks):7.1%} "
            f"{statistics.mean(apart):+8.1f} ± {half:4.1f} pp {max(last):9.1%} {max(blocks):10.1%} "
            f"{losses[0]:8.2f} {losses[1]:6.2f}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or tell what is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--targets", nargs="+", default=["mnist-5"], choices=list(TARGETS))
    parser.add_argument("--budget", default="large", choices=list(BUDGETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of labelled images")
    parser.add_argument("--draws", type=int, default=20, help="random recipes")
    parser.add_argument("--judged", type=int, default=600, help="test images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="fine-tune them, too")
    parser.add_argument("--data", type=Path, default=cache_folder("winners"))
    parser.add_argument("--out", type=Path, help="lines of JSON are added to this file")
    parser.add_argument("--summary", type=Path, help="such a file; nothing is measured")
    args = parser.parse_args(arguments)
    if args.summary is not None:
        summary([json.loads(line) for line in args.summary.read_text("utf-8").splitlines()])
        return
    torch.set_num_threads(args.threads)
    register(args.data)
    there = args.out is not None and args.out.exists()
    rows: list[Row] = (
        [json.loads(line) for line in args.out.read_text("utf-8").splitlines()] if there else []
    )
    for target in args.targets:
        for row in measure(target, args, tuple(rows)):
            rows.append(row)
            if args.out is not None:
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            if len(rows) % 20 == 0:
                print(f"{target}: {len(rows)} networks", file=sys.stderr, flush=True)
    summary(rows)


if __name__ == "__main__":
    main()
