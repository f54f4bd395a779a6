"""Which guide to candidates? Recipes are fine-tuned as a run does it, and guessed before.

Recipes of a run file's zoo (its models, and reassemblies drawn uniformly within the budget, one
block from each of four stages of equal depth) are trained with some seeds, each with other images
held out. Before, every proxy scores them; besides, there are the quality of their stitches, how
they do on the images held out after parts of the first training, and sums of ranks of several of
these. What is told of each guide, with the 95 % interval of a bootstrap over recipes:
Kendall's tau with the test accuracy in the end, averaged over the seeds; and, which counts more,
the regret of the best of 16: how much worse than the best of 16 drawn recipes the one is that the
guide puts first.

Then the guide that learns (``zoo_search/reassembly/guide``), which says nothing before others were
trained: some recipes, drawn at random, have gone through successive halving on the first seed's
validation images, as in a bracket of the race, and it orders all others, beside guides that need
nothing. A table for each number of known recipes, means over draws.

python benchmarks/guides.py jobs/digits.yaml --recipes 28 --out guides.jsonl
python benchmarks/guides.py --setting textures-10 large --recipes 28 --out guides.jsonl
python benchmarks/guides.py --summary guides.jsonl

Resumable: a line for each recipe that is done; trainings under way lie in ``--runs``. The test
images choose nothing in a training; here they are what guides are measured by.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
from reassembly_demo import Demo, demo_of
from scipy.stats import kendalltau, rankdata
from winners_data import register
from winners_jobs import BUDGETS, TARGETS, job_of

from zoo_search import cluster
from zoo_search.config import load_job
from zoo_search.core.files import cache_folder
from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import Entry, Raced, Result, Seen
from zoo_search.finetune.race.further import guess
from zoo_search.finetune.race.halving import rungs
from zoo_search.finetune.starts import Starts
from zoo_search.finetune.tuning import Tuning
from zoo_search.networks import BlockRef, Recipe
from zoo_search.reassembly import Candidate
from zoo_search.reassembly.proxies import PROXIES
from zoo_search.reassembly.scoring import Scorer

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]
_DRAWS, _OF = 500, 16
_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of all epochs, after which the first training is looked at."""
_EARLY = "validation accuracy after 12%"
_KNOWN = (8, 12)
"""Recipes that are known when the guide that learns is asked."""
_TIMES = 100
_WINNERS = 3
LEARNED: Mapping[str, tuple[str, ...]] = {
    "learned, no proxy": (),
    "learned, naswot": ("naswot",),
    "learned, naswot + macs + params": ("naswot", "macs", "params"),
    "learned, naswot + least R²": ("naswot", "stitches, least R²"),
    "learned, probe": ("probe",),
    "learned, naswot + probe": ("naswot", "probe"),
}
BESIDE = ("naswot", "probe", "logme", "macs", "naswot + probe", "naswot + probe + macs")
FUSIONS: Mapping[str, tuple[str, ...]] = {
    "naswot + probe": ("naswot", "probe"),
    "naswot + logme": ("naswot", "logme"),
    "naswot + stitches": ("naswot", "stitches, least R²"),
    "naswot + early": ("naswot", _EARLY),
    "probe + macs": ("probe", "macs"),
    "naswot + probe + macs": ("naswot", "probe", "macs"),
    "naswot + early + macs": ("naswot", _EARLY, "macs"),
}


def measure(demo: Demo, name: str, recipes: Sequence[Recipe], out: Path, runs: Path) -> None:
    """Score and train the recipes of which the file holds no line."""
    known = {(row["setting"], row["key"]) for row in read([out])}
    todo = [recipe for recipe in recipes if (name, recipe.key) not in known]
    if not todo:
        return
    scorer = Scorer(demo.task)
    starts, store = Starts(demo.zoo, demo.dataset, demo.job), RunStore(str(runs / name))
    tuning = Tuning(starts, demo.dataset, demo.job, store)
    # Some at a time, so that a process that is killed has written what is done.
    for first in range(0, len(todo), 4):
        some = todo[first : first + 4]
        entries = [Entry(f"{first + n}", "plain", recipe) for n, recipe in enumerate(some)]
        results, given_up = tuning.train(starts.with_all_seeds(starts.first(entries)))
        trained = {result.name: result for result in results}
        for entry in entries:
            outcome = scorer(entry.recipe)
            row = {
                "setting": name,
                "key": entry.recipe.key,
                "recipe": str(entry.recipe),
                "scores": {**outcome.scores, **_stitches(outcome.init)},
                **(_told(trained[entry.name]) if entry.name in trained else {"trainings": []}),
            }
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        print(f"{name}: {first + len(some)} of {len(todo)} recipes", flush=True)
        if given_up:
            print(f"  came to no end: {[one.name for one in given_up]}", flush=True)


def _stitches(init: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how well the stitches of a candidate fit; a network without any fits."""
    found = [r2 for report in init for r2 in report.get("facts", {}).get("r2", ())]
    return {
        "stitches, least R²": min(found, default=1.0),
        "stitches, product of R²": _product(found),
    }


def _product(values: Sequence[float]) -> float:
    return float(np.prod(np.clip(values, 0.0, 1.0))) if len(values) else 1.0


def _told(result: Result) -> Row:
    return {
        "params": result.params,
        "macs": result.macs,
        "trainings": [
            {
                "test": {p: one.test_accuracy for p, one in training.protocols.items()},
                "kept": training.kept and vars(training.kept),
                "curve": [
                    [point.validation_accuracy, point.validation_loss]
                    for one in training.protocols.values()
                    for point in one.curve
                ],
            }
            for training in result.trainings
        ],
    }


def guides_of(rows: Sequence[Row]) -> dict[str, Floats]:
    """Return what each guide says of the recipes, the higher the better; NaN: nothing."""
    names = sorted({name for row in rows for name in row["scores"]})
    found = {n: np.array([row["scores"].get(n, np.nan) for row in rows]) for n in names}
    epochs = len(rows[0]["trainings"][0]["curve"])
    for share in _SHARES:
        at = max(1, round(share * epochs)) - 1
        seen = [row["trainings"][0]["curve"][at] for row in rows]
        found[f"validation accuracy after {share:.0%}"] = np.array(
            [s[0] - s[1] / 1e3 for s in seen]
        )
        found[f"validation loss after {share:.0%}"] = np.array([-s[1] for s in seen])
    for name, parts in FUSIONS.items():
        if all(part in found for part in parts):
            found[name] = sum(rankdata(found[part], nan_policy="omit") for part in parts)
    return found


def regret(guide: Floats, wanted: Floats, draw: npt.NDArray[np.int64]) -> float:
    """Return how much worse the one of a draw is that the guide puts first than the best one."""
    told = np.where(np.isnan(guide[draw]), -np.inf, guide[draw])
    return float(wanted[draw].max() - wanted[draw][told.argmax()])


def summary(rows: Sequence[Row]) -> None:
    """Print a table for each setting."""
    for name in dict.fromkeys(row["setting"] for row in rows):
        mine = [row for row in rows if row["setting"] == name and row["trainings"]]
        last = list(mine[0]["trainings"][0]["test"])[-1]
        wanted = np.array([fmean(t["test"][last] for t in row["trainings"]) for row in mine])
        spread = [np.std([t["test"][last] for t in row["trainings"]], ddof=1) for row in mine
                  if len(row["trainings"]) > 1]  # fmt: skip
        noise = f", {100 * fmean(spread):.1f} over trainings of one" if spread else ""
        print(
            f"\n{name}: {len(mine)} recipes, {len(mine[0]['trainings'])} trainings each; test "
            f"accuracy {100 * wanted.min():.1f} to {100 * wanted.max():.1f} %, standard deviation "
            f"{100 * wanted.std(ddof=1):.1f} points{noise}\n"
        )
        print(f"| guide | tau | regret of the best of {_OF}, points |\n| --- | ---: | ---: |")
        rng = np.random.default_rng(0)
        taus_at = rng.integers(0, len(mine), (_DRAWS, len(mine)))
        draws = [rng.choice(len(mine), min(_OF, len(mine)), replace=False) for _ in range(_DRAWS)]
        lines = []
        guides = guides_of(mine)
        for guide, values in guides.items():
            tau = _tau(values, wanted)
            low, high = np.nanpercentile([_tau(values[d], wanted[d]) for d in taus_at], [2.5, 97.5])
            lost = 100 * fmean(regret(values, wanted, draw) for draw in draws)
            lines.append((lost, f"| {guide} | {tau:.2f} [{low:.2f}, {high:.2f}] | {lost:.2f} |"))
        blind = 100 * fmean(wanted[d].max() - wanted[d].mean() for d in draws)
        lines.append((blind, f"| none: one of them at random | 0 | {blind:.2f} |"))
        print("\n".join(line for _, line in sorted(lines)))
        for known in _KNOWN:
            if known + _OF <= len(mine):
                learning(mine, wanted, {n: guides[n] for n in BESIDE if n in guides}, known)


def learning(rows: Sequence[Row], wanted: Floats, guides: Mapping[str, Floats], known: int) -> None:
    """Print how well guides order what is left when so many recipes are known."""
    rng = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float]]] = {}
    candidates = [_candidate(place, row) for place, row in enumerate(rows)]
    depths: dict[str, int] = {}
    for block in (block for candidate in candidates for block in candidate.recipe.blocks):
        depths[block.model] = max(depths.get(block.model, 0), block.stop)
    for _ in range(_TIMES):
        mixed = rng.permutation(len(rows))
        rest = np.sort(mixed[known:])
        raced = halved([rows[place] for place in mixed[:known]])
        draw = rng.choice(rest, _OF, replace=False)
        free = [candidates[place] for place in rest]
        told = dict(guides)
        for name, proxies in LEARNED.items():
            scores = {
                c.recipe.key: {p: c.scores[p] for p in proxies if p in c.scores} for c in candidates
            }
            values = np.full(len(rows), np.nan)
            values[rest] = [
                one.validation_accuracy for one, _ in guess(free, raced, scores, depths)
            ]
            told[name] = values
        told["none: one of them at random"] = rng.permutation(len(rows)).astype(np.float64)
        for name, values in told.items():
            one = _tau(values[rest], wanted[rest]), 100 * regret(values, wanted, draw)
            found.setdefault(name, []).append(one)
    print(
        f"\n{known} recipes known, {len(rows) - known} to be ordered; means over {_TIMES} draws "
        f"± standard error\n\n| guide | tau | regret of the best of {_OF}, points |\n"
        "| --- | ---: | ---: |"
    )
    for name, values in sorted(found.items(), key=lambda item: fmean(v[1] for v in item[1])):
        taus, lost = np.array(values).T
        error = lost.std(ddof=1) / math.sqrt(len(lost))
        print(f"| {name} | {taus.mean():.2f} | {lost.mean():.2f} ± {error:.2f} |")


def halved(rows: Sequence[Row]) -> list[Raced]:
    """Return what a bracket of the race would have shown of recipes."""
    epochs = len(rows[0]["trainings"][0]["curve"])
    seen: list[list[Seen]] = [[] for _ in rows]
    running = list(range(len(rows)))
    stops = rungs([epochs // 2, epochs - epochs // 2], len(rows), _WINNERS)
    for stop in stops:
        for place in running:
            curve = rows[place]["trainings"][0]["curve"][:stop]
            accuracy, loss = max(curve, key=lambda point: (point[0], -point[1]))
            seen[place].append(Seen(stop, accuracy, loss))
        running.sort(key=lambda n: (-seen[n][-1].validation_accuracy, seen[n][-1].validation_loss))
        count = _WINNERS if stop == stops[-2] else math.ceil(len(running) / 2)
        running = running[: max(_WINNERS, count)]
    return [
        Raced("", "reassembly", _recipe(row), row["macs"], tuple(points))
        for row, points in zip(rows, seen, strict=True)
    ]


def _recipe(row: Row) -> Recipe:
    found = re.findall(r"(\w+)\[(\d+),(\d+)\)", row["recipe"])
    return Recipe(tuple(BlockRef(model, int(start), int(stop)) for model, start, stop in found))


def _candidate(place: int, row: Row) -> Candidate:
    recipe, kind = _recipe(row), "reassembly" if "+" in row["recipe"] else "zoo"
    params, macs = row["params"], row["macs"]
    return Candidate(place, recipe, kind, params, macs, row["scores"], "complete", "", 0.0)


def _tau(values: Floats, wanted: Floats) -> float:
    there = ~np.isnan(values)
    return float(kendalltau(values[there], wanted[there]).statistic)


def read(files: Sequence[Path]) -> list[Row]:
    """Return the lines of files that are there."""
    return [
        json.loads(line)
        for file in files
        if file.exists()
        for line in file.read_text("utf-8").splitlines()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing of a setting, or tell what is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("job", nargs="?", type=Path, help="a run file")
    parser.add_argument("--setting", nargs=2, help="target and budget of winners.py instead")
    parser.add_argument("--recipes", type=int, default=28, help="zoo models included")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=cache_folder("winners"))
    parser.add_argument("--runs", type=Path, default=Path("runs/guides"))
    parser.add_argument("--cpus", type=int, help="that Ray uses; default: all")
    parser.add_argument("--out", type=Path, default=Path("guides.jsonl"))
    parser.add_argument("--summary", type=Path, nargs="+", help="such files; nothing is trained")
    args = parser.parse_args(arguments)
    if args.summary is None:
        if args.setting:
            target, budget = args.setting
            if target not in TARGETS or budget not in BUDGETS:
                parser.error(f"targets: {', '.join(TARGETS)}; budgets: {', '.join(BUDGETS)}")
            register(args.data)
            job = load_job(job_of(target, budget, args.seeds, args.data, {}))
        elif args.job:
            job = load_job(args.job)
        else:
            parser.error("give a run file, or --setting")
        tuned = job.finetune.model_copy(update={"seeds": args.seeds, "plain": {}, "variants": {}})
        demo = demo_of(job.model_copy(update={"finetune": tuned}), tuple(PROXIES))
        cluster.connect(num_cpus=args.cpus)
        space = demo.space(4)
        drawn = [r for r in space.sample(args.recipes + len(space.zoo)) if r not in space.zoo]
        recipes = [*space.zoo, *drawn][: args.recipes]
        measure(demo, job.name, recipes, args.out, args.runs)
    summary(read(args.summary or [args.out]))


if __name__ == "__main__":
    main()
