"""Part 3 of ``reassembly.py``: how soon each sampler finds the best recipe of a real space.

Every model of the run file's zoo is cut into K stages of about as many nodes each, and a recipe
takes one block a stage from any model: 5 models and K = 5 give 3,125 recipes, of which those
within the run file's budget are the space. Each is scored once with NASWOT, on the run file's
training images with least-squares stitches, and the scores are kept in the file ``--scores``
(which is gone on with if it is there). Then each sampler is replayed on that table as a search
uses it: the zoo models first, then one recipe at a time, told before the next one is asked for.

Regret is the best score of the whole space minus the best found so far. It is given in standard
deviations of all scores, too.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reassembly_demo import load_demo

from zoo_search.networks import Recipe
from zoo_search.reassembly import Space
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.scoring import Scorer, ScoringTask

PROXY = "naswot"


def score_all(space: Space, task: ScoringTask, path: Path) -> dict[str, float]:
    """Score every recipe of the space that the file does not hold yet; null is a failure."""
    recipes = space.enumerate()
    known = _read(path)
    missing = [recipe for recipe in recipes if recipe.key not in known]
    print(f"{len(recipes)} recipes within the budget, {len(missing)} to score")
    scorer = Scorer(task) if missing else None
    start = time.perf_counter()
    with path.open("a", encoding="utf-8") as file:
        for number, recipe in enumerate(missing, 1):
            assert scorer is not None
            outcome = scorer(recipe)
            row = {"key": recipe.key, "recipe": str(recipe), "score": outcome.scores.get(PROXY),
                   "reason": outcome.reason, "seconds": round(outcome.seconds, 4)}  # fmt: skip
            file.write(json.dumps(row) + "\n")
            file.flush()
            if number % 200 == 0:
                print(f"  {number} scored, {(time.perf_counter() - start) / number:.3f} s each")
    known = _read(path)
    scores = {recipe.key: known[recipe.key] for recipe in recipes}
    return {key: score for key, score in scores.items() if score is not None}


def _read(path: Path) -> dict[str, float | None]:
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["key"]: row["score"] for row in rows}


def replay(
    name: str, space: Space, scores: Mapping[str, float], seed: int, most: int
) -> tuple[list[float], float]:
    """Return the best score after each evaluation, and the sampler's seconds a recipe."""
    sampler = SAMPLERS.get(name, "--sampler")(space, most, seed)
    taken: dict[str, Recipe] = {}
    best, found, spent = -math.inf, [], 0.0
    zoo = list(space.zoo)
    while len(found) < most:
        start = time.perf_counter()
        recipe = zoo.pop(0) if zoo else sampler.next(taken)
        spent += time.perf_counter() - start
        if recipe is None:
            break
        assert recipe.key not in taken, f"{name} asked for {recipe} again"
        assert space.admits(recipe), f"{name} asked for {recipe}, which is not feasible"
        taken[recipe.key] = recipe
        score = scores.get(recipe.key)
        sampler.tell(recipe, score, space.cost(recipe))
        best = best if score is None else max(best, score)
        found.append(best)
    return found, spent / len(found)


def compare(args: argparse.Namespace, space: Space, scores: Mapping[str, float]) -> dict[str, Any]:
    """Replay every sampler with every seed, print the table and return it."""
    top, spread = max(scores.values()), statistics.pstdev(scores.values())
    zoo = [scores[recipe.key] for recipe in space.zoo if recipe.key in scores]
    print(
        f"{len(scores)} scores, best {top:.2f}, standard deviation {spread:.2f}; best zoo model "
        f"{max(zoo, default=math.nan):.2f}; {args.seeds} seeds; evaluations count the {len(zoo)} "
        "zoo models, which every search scores first"
    )
    most = min(max(args.evaluations), len(scores))
    result: dict[str, Any] = {"best": top, "deviation": spread, "samplers": {}}
    print(f"{'sampler':8} {'evaluations':>11} {'best found':>16} {'regret':>16} "
          f"{'in deviations':>14} {'found the best':>15}")  # fmt: skip
    for name in args.samplers:
        runs = [replay(name, space, scores, seed, most) for seed in range(args.seeds)]
        for count in args.evaluations:
            found = [best[min(count, len(best)) - 1] for best, _ in runs]
            _row(result, name, count, found, top, spread)
        seconds = statistics.mean(each for _, each in runs)
        result["samplers"][name]["seconds"] = seconds
        print(f"{name:8} {1000 * seconds:.1f} ms a proposal")
    return result


def _row(
    result: dict[str, Any], name: str, count: int, found: Sequence[float], top: float, spread: float
) -> None:
    regrets = [top - best for best in found]
    mean, deviation = statistics.mean(regrets), statistics.pstdev(regrets)
    hits = sum(regret < 1e-9 for regret in regrets)
    print(
        f"{name:8} {count:11} {statistics.mean(found):9.2f} ± {deviation:4.2f} {mean:9.2f} ± "
        f"{deviation:4.2f} {mean / spread:14.3f} {hits:9} of {len(found)}"
    )
    rows = result["samplers"].setdefault(name, {"regret": {}})
    rows["regret"][count] = {"mean": mean, "deviation": deviation, "hits": hits, "all": regrets}


def search(args: argparse.Namespace) -> dict[str, Any]:
    """Part 3: score the space once, then replay every sampler on it."""
    demo = load_demo(args.job)
    space = demo.space(args.k)
    return compare(args, space, score_all(space, demo.task, args.scores))
