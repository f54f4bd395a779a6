"""What does a larger space bring? The demo's zoo in spaces of several kinds, without training.

For each space and seed: recipes drawn uniformly within the run file's budget, scored as the search
scores them, and the start (stitches and head in closed form) of the best by the first proxy, judged
on images that nothing was fitted to. Stitches, head and proxies see 200 training images, as many as
the demo has, another 200 for each seed; 600 others judge. Zoo models and their first blocks are
judged as well: that is what a reassembly has to beat.

python benchmarks/spaces.py jobs/digits.yaml --out spaces.jsonl --table similarity.parquet
python benchmarks/spaces.py --summary spaces.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import zoo_search as zs
from zoo_search.config import load_job
from zoo_search.costs import CostTable
from zoo_search.data import View, open_dataset
from zoo_search.networks import Recipe, assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.parents import Parents
from zoo_search.networks.target_images import load_target
from zoo_search.partitions import Partition
from zoo_search.reassembly.costing import budget_of
from zoo_search.reassembly.proxies import find_proxies
from zoo_search.reassembly.scoring import Scorer, Scoring, ScoringTask
from zoo_search.reassembly.space import Space, SpaceUnion, make_space
from zoo_search.similarities.table import SimilarityTable
from zoo_search.training.accuracy import predict
from zoo_search.training.images import InMemory

Row = dict[str, Any]
FITTED, JUDGED = 200, 600
PROXIES = ("naswot", "probe")
SINGLE = "zoo models and their first blocks"
# eps: six blocks of 13 nodes do not fit the run file's.
SPACES: dict[str, dict[str, Any]] = {
    "k = 4 (the paper's)": {},
    "k = 4, prefixes": {"prefixes": True},
    "k = 2": {"k": [2]},
    "k = 3": {"k": [3]},
    "k = 6": {"k": [6], "eps": 0.4},
    "k = 2, 3, 4, 6": {"k": [2, 3, 4, 6], "eps": 0.4},
    "k = 4, ends moved by 1 (0.1)": {"shift": 1, "tolerance": 0.1},
    "k = 4, ends moved by 2 (0.3)": {"shift": 2, "tolerance": 0.3},
    "all: k = 2, 3, 4, 6, prefixes, moved by 1": {
        "k": [2, 3, 4, 6], "eps": 0.4, "prefixes": True, "shift": 1, "tolerance": 0.1,
    },
}  # fmt: skip


class Zoo:
    """The zoo of a run file, its similarity table, and what networks are judged by."""

    def __init__(self, path: Path, table: Path | None) -> None:
        self.job = load_job(path)
        self.zoo = zs.load_zoo(self.job)
        many = (FITTED + JUDGED) // 8 + 25
        data = open_dataset(self.job.dataset.model_copy(update={"per_class": many}), self.job.seed)
        self.classes = len(data.classes)
        self.train = data.select("train", seed=self.job.seed)
        self._file = table
        self.costs = CostTable(dict(Parents(self.zoo)), self.classes)

    @cached_property
    def table(self) -> SimilarityTable:
        """Of the images of the first seed; from the file where there is one."""
        if self._file is not None and self._file.exists():
            return SimilarityTable.load(self._file)
        size = self.job.input_size or 224
        images = self._images(0)[0].load(View((size, size))).images
        config = self.job.similarity
        made = zs.similarity(self.zoo, images, config.metric, config.batch_size)
        if self._file is not None:
            made.save(self._file)
        return made

    def space(
        self,
        k: Sequence[int] = (4,),
        eps: float | None = None,
        prefixes: bool = False,
        shift: int = 0,
        tolerance: float = 0.0,
    ) -> Space | SpaceUnion:
        """Return a space within the budget of the run file, and with its settings otherwise."""
        config, found = self.job.partition, list[Partition]()
        for number in k:
            found.append(
                zs.partition(
                    self.table, number, config.eps if eps is None else eps, config.restarts,
                    config.method, self.job.seed, config.size, config.one_per_set, 0.0, shift,
                    tolerance,
                )
            )  # fmt: skip
        return make_space(found, self.costs, budget_of(self.job.budget), early=prefixes)

    def _images(self, seed: int) -> tuple[Any, Any]:
        parts = len(self.train) // FITTED
        rest, own = self.train.folds(parts, self.job.seed)[seed % parts]
        return own, rest.first(JUDGED)

    def judge(self, seed: int) -> tuple[Callable[[Recipe], Row], Callable[[Recipe], Row]]:
        """Return what scores a recipe, and what judges its start, on the images of a seed."""
        fitted, judged = self._images(seed)
        images, labels = load_target(fitted, self.zoo)
        others, other_labels = load_target(judged, self.zoo)
        search = self.job.search
        scoring = Scoring(
            find_proxies(PROXIES), "least_squares", search.fit_images, search.batches,
            search.batch_size, seed,
        )  # fmt: skip
        parents = dict(Parents(self.zoo))
        scorer = Scorer(ScoringTask(parents, images, labels, self.classes, scoring))
        fitter = StitchFitter(self.zoo, images, chained=True)

        def scored(recipe: Recipe) -> Row:
            return dict(scorer(recipe).scores)

        def started(recipe: Recipe) -> Row:
            net = assemble(
                recipe, self.zoo, "least_squares", None, labels, self.classes, seed,
                fitter=fitter, copy_blocks=False,
            )  # fmt: skip
            model = recipe.blocks[0].model
            found = predict(net, InMemory(others[model], other_labels), self.zoo[model].transform)
            return {"accuracy": found.accuracy, "loss": found.loss}

        return scored, started


class Known:
    """What the file holds: lines of JSON, the last one of a key counts."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path is not None and path.exists() else []
        self.rows: dict[str, Row] = {row["key"]: row for row in map(json.loads, lines)}

    def get(self, key: str, make: Callable[[], Row]) -> Row:
        """Return a row; make it and write it down where there is none."""
        if key not in self.rows:
            self.rows[key] = {"key": key, **make()}
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(self.rows[key]) + "\n")
        return self.rows[key]


def measure(
    made: Zoo, known: Known, names: Sequence[str], seeds: Sequence[int], draws: int, best: int
) -> None:
    """Fill the file for each seed and space; what is known is not made again."""
    for seed in seeds:
        scored, started = made.judge(seed)

        def judged(recipe: Recipe, seed: int = seed, started: Any = started) -> Row:
            return known.get(f"start {seed} {recipe.key}", lambda: started(recipe))

        def network(recipe: Recipe, seed: int = seed, scored: Any = scored) -> Row:
            cost = made.costs.cost(recipe)
            told = {"recipe": str(recipe), "params": cost.params, "macs": cost.macs}
            return known.get(f"scores {seed} {recipe.key}", lambda: {**told, **scored(recipe)})

        for name in names:
            if f"space {seed} {name}" in known.rows:
                continue
            begun = time.perf_counter()
            space = made.space(**SPACES[name])
            drawn = [r for r in space.sample(draws, seed) if len(r.models) > 1]
            rows = {recipe.key: network(recipe) for recipe in drawn}
            first = [r for r in drawn if PROXIES[0] in rows[r.key]]
            first.sort(key=lambda r: -rows[r.key][PROXIES[0]])
            for recipe in first[:best]:
                judged(recipe)
            singles = [*space.zoo, *space.prefixes]
            for recipe in singles:
                judged(recipe)
            seconds = time.perf_counter() - begun
            few = space.most <= 50_000
            count = str(space.count()) if few else f"<= {space.most:,}"
            told = {
                "space": name, "seed": seed, "count": count, "seconds": seconds,
                "drawn": [r.key for r in drawn], "best": [r.key for r in first[:best]],
                "singles": {r.key: str(r) for r in singles},
            }  # fmt: skip
            known.get(f"space {seed} {name}", lambda told=told: told)
            print(f"seed {seed}, {name}: {count} networks, {seconds:.0f} s", flush=True)


def summary(rows: Mapping[str, Row]) -> None:
    """Print a line for each space: what its best candidates start from, over the seeds."""
    found: dict[str, list[Row]] = {}
    for row in rows.values():
        if "space" in row:
            found.setdefault(row["space"], []).append(row)
    print(
        f"{'space':42s} seeds {'networks':>12s} {'naswot':>7s} {'probe':>6s} "
        f"{'start of the best':>18s} {'best start':>11s} {'loss':>6s}"
    )
    for name in [name for name in SPACES if name in found]:
        line = [list(_figures(rows, told)) for told in found[name]]
        naswot, probe, mean, error, top, loss = map(statistics.mean, zip(*line, strict=True))
        print(
            f"{name:42s} {len(line):5d} {found[name][0]['count']:>12s} {naswot:7.1f} {probe:6.3f} "
            f"{100 * mean:8.1f} % ± {100 * error:3.1f}   {100 * top:9.1f} % {loss:6.3f}"
        )
    for name in ("k = 4 (the paper's)", "k = 4, prefixes"):
        for told in found.get(name, ()):
            starts = {key: rows[f"start {told['seed']} {key}"] for key in told["singles"]}
            key = max(starts, key=lambda key: starts[key]["accuracy"])
            print(
                f"best start of the {len(starts)} single models of '{name}', seed {told['seed']}: "
                f"{told['singles'][key]}, {starts[key]['accuracy']:.1%}"
            )


def _figures(rows: Mapping[str, Row], told: Row) -> Iterator[float]:
    """Yield naswot and probe of the best candidates, and what they start from, at one seed."""
    seed, best = told["seed"], told["best"]
    scores = [rows[f"scores {seed} {key}"] for key in best]
    starts = [rows[f"start {seed} {key}"] for key in best]
    accuracies = [row["accuracy"] for row in starts]
    yield statistics.mean(row["naswot"] for row in scores)
    yield statistics.mean(row["probe"] for row in scores)
    yield statistics.mean(accuracies)
    yield statistics.stdev(accuracies) / math.sqrt(len(accuracies))
    yield max(accuracies)
    yield statistics.mean(row["loss"] for row in starts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or tell what is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("job", type=Path, nargs="?", help="a run file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of draws and images")
    parser.add_argument("--draws", type=int, default=64, help="recipes for each space and seed")
    parser.add_argument("--best", type=int, default=16, help="of these, whose starts are judged")
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", type=Path, help="the similarity table; made where it is not")
    parser.add_argument("--out", type=Path, help="lines of JSON; what is there is not made again")
    parser.add_argument("--summary", type=Path, help="such a file; nothing is measured")
    args = parser.parse_args(arguments)
    known = Known(args.summary or args.out)
    if args.summary is None:
        if args.job is None:
            parser.error("give a run file, such as jobs/digits.yaml, or --summary")
        torch.set_num_threads(args.threads)
        measure(Zoo(args.job, args.table), known, args.spaces, args.seeds, args.draws, args.best)
    summary(known.rows)


if __name__ == "__main__":
    main()
