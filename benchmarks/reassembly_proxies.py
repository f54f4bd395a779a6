"""Part 4 of ``reassembly.py``: which proxy to trust.

Recipes of the demo's zoo within its budget are fine-tuned for real, FROZEN and then FULL, as the
demo does it; every proxy scores them before. Kendall's tau of each proxy with the accuracy on the
held-out images, with the 95 % interval of a bootstrap over the recipes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reassembly_demo import Demo, load_demo
from scipy.stats import kendalltau

from zoo_search.networks import Recipe, assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.reassembly.proxies import PROXIES
from zoo_search.reassembly.scoring import Scorer
from zoo_search.training.accuracy import accuracy
from zoo_search.training.images import InMemory
from zoo_search.training.schedules import get_schedule
from zoo_search.training.train import train

_DRAWS = 2000


def proxies(args: argparse.Namespace) -> dict[str, Any]:
    """Part 4: fine-tune, score, correlate."""
    demo = load_demo(args.job, tuple(PROXIES))
    space = demo.space(4)
    recipes = [*space.zoo, *(r for r in space.sample(args.recipes + 8) if r not in space.zoo)]
    rows = measure(demo, recipes[: args.recipes], args.trained)
    print(f"part 4: {len(rows)} recipes, {len(demo.dataset.select('test').ids)} test images")
    for row in rows:
        print("  {recipe}: frozen {frozen:.3f}, full {full:.3f}".format(**row))
    print(f"  {'proxy':12} {'tau FROZEN':>26} {'tau FULL':>26}  recipes")
    table = {name: correlate(rows, name) for name in PROXIES}
    order = sorted(table, key=lambda name: -table[name]["full"]["tau"])
    for name in order:
        parts = [
            "{tau:8.2f}  [{low:5.2f}, {high:5.2f}]".format(**table[name][p])
            for p in ("frozen", "full")
        ]
        print(f"  {name:12} {parts[0]:>26} {parts[1]:>26}  {table[name]['recipes']}")
    return {"rows": rows, "tau": table}


def measure(demo: Demo, recipes: Sequence[Recipe], path: Path) -> list[dict[str, Any]]:
    """Score and fine-tune the recipes that the file does not hold yet."""
    known = {}
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        known = {row["key"]: row for row in map(json.loads, lines)}
    scorer = Scorer(demo.task)
    for number, recipe in enumerate(recipes, 1):
        if recipe.key in known:
            continue
        start = time.perf_counter()
        outcome = scorer(recipe)
        row = {
            "key": recipe.key,
            "recipe": str(recipe),
            "scores": dict(outcome.scores),
            "reason": outcome.reason,
            **fine_tuned(demo, recipe),
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        known[recipe.key] = row
        seconds = time.perf_counter() - start
        print(f"  {number}/{len(recipes)}, {seconds:.0f} s  {recipe} {row['full']:.3f}", flush=True)
    return [known[recipe.key] for recipe in recipes]


def fine_tuned(demo: Demo, recipe: Recipe) -> dict[str, float]:
    """Return the accuracy on the test images after FROZEN-TUNING and after FULL-TUNING."""
    job, zoo, first = demo.job, demo.zoo, recipe.blocks[0].model
    transform = zoo[first].transform
    loaded = [demo.dataset.select(s, seed=job.seed).load(transform.view) for s in ("train", "test")]
    images, test = (InMemory(one.images, one.labels) for one in loaded)
    asked = job.finetune.schedule
    classes = len(demo.dataset.classes)
    fitter = StitchFitter(zoo, demo.task.images, chained=True)
    net = assemble(
        recipe, zoo, labels=demo.task.labels, num_classes=classes, seed=job.seed, fitter=fitter
    )
    tuned = {}
    for protocol in ("frozen", "full"):
        train(
            net,
            images,
            num_classes=classes,
            transform=transform,
            schedule=get_schedule(asked.name, **asked.overruled()),
            protocol=protocol,
            seed=job.seed,
        )
        tuned[protocol] = accuracy(net, test, transform)
    return tuned


def correlate(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return Kendall's tau-b of a proxy with both accuracies, with bootstrap intervals."""
    scored = [row for row in rows if name in row["scores"]]
    found: dict[str, Any] = {"recipes": len(scored)}
    scores = np.array([row["scores"][name] for row in scored])
    draws = np.random.default_rng(0).integers(0, len(scored), (_DRAWS, len(scored)))
    for protocol in ("frozen", "full"):
        wanted = np.array([row[protocol] for row in scored])
        if len(scored) < 3:
            found[protocol] = {"tau": float("nan"), "low": float("nan"), "high": float("nan")}
            continue
        taus = [kendalltau(scores[draw], wanted[draw]).statistic for draw in draws]
        low, high = np.nanpercentile(taus, [2.5, 97.5])
        tau = float(kendalltau(scores, wanted).statistic)
        found[protocol] = {"tau": tau, "low": float(low), "high": float(high)}
    return found
