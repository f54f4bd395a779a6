"""How good and how fast the partition is, on seeded tables like those of the paper's zoo.

    python benchmarks/partition.py --part 1,2,3,4,6   # about ten minutes on two cores
    python benchmarks/partition.py --part 5           # needs several local Ray clusters

A table has 24 models of 8 to 33 nodes; cuts at like relative depth are alike (the diagonal
pattern), with noise of each model's own and of each pair's. Part 1: solver time of 200 restarts
against a plain, per-block Python version of the paper's method. Part 2: what each method reaches
over ten tables. Part 3: the gap to the upper bound over time. Part 4: growth with the zoo. Part 5:
real Ray. Part 6: what ``one_per_set`` costs and gives; the others are under Eqs. 3-5 alone, as the
plain version is. Times are CPU seconds of this process (``time.process_time``) where not said
otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from plain_kl import plain_kl
from zoo_tables import EPS, RESTARTS, K, problem_of, zoo_like

from zoo_search.partitions.bounds.lagrange import lagrangian_bound
from zoo_search.partitions.bounds.simple import upper_bound
from zoo_search.partitions.problem.definition import PartitionProblem, from_table
from zoo_search.partitions.search import find_restarts
from zoo_search.partitions.solvers.polish import finalists, improve, polish
from zoo_search.partitions.solvers.restarts import METHODS, Restarts, restart_seeds, run_restarts


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds of this process, and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def polished(problem: PartitionProblem, found: Restarts) -> Restarts:
    """Return restarts with the best few improved."""
    return improve(found, polish(problem, "exact", finalists("exact", found)))


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Part 1."""
    problem, seeds = problem_of(0), restart_seeds(0, RESTARTS)
    times: dict[str, list[float]] = {"exact": [], "kl": [], "plain": []}
    scale = RESTARTS / args.plain
    for _ in range(args.repeats):
        times["exact"].append(cpu(lambda: run_restarts(problem, "exact", seeds))[0])
        times["kl"].append(cpu(lambda: run_restarts(problem, "kl", seeds))[0])
        seconds, plain = cpu(lambda: [plain_kl(problem, int(s)) for s in seeds[: args.plain]])
        times["plain"].append(seconds * scale)
    ours = run_restarts(problem, "kl", seeds[: args.plain])
    row: dict[str, Any] = {name: statistics.median(values) for name, values in times.items()}
    ratios = [p / e for p, e in zip(times["plain"], times["exact"], strict=True)]
    row |= {
        "plain / exact": statistics.median(ratios),
        "smallest ratio": min(ratios),
        "mean objective, plain kl": statistics.mean(plain),
        "mean objective, kl": float(ours.objectives.mean()),
    }
    found = run_restarts(problem, "exact", seeds)
    row["swap search"] = cpu(lambda: polished(problem, found))[0]
    print("part 1: CPU seconds of 200 restarts")
    for name, value in row.items():
        print(f"  {name:26} {value:10.3f}")
    return row


def objectives(args: argparse.Namespace) -> dict[str, Any]:
    """Part 2."""
    print(f"part 2: {args.tables} tables, {RESTARTS} restarts; shares of the best known objective")
    rows = []
    for seed in range(args.tables):
        problem, seeds = problem_of(seed, noise=args.noise), restart_seeds(seed, RESTARTS)
        found = {name: run_restarts(problem, name, seeds) for name in METHODS}
        more = run_restarts(problem, "exact", restart_seeds(10_000 + seed, args.more))
        swapped = polished(problem, found["exact"]).objectives.max()
        longer = polished(problem, more).objectives.max()
        first = polished(problem, _first(found["exact"])).objectives.max()
        best = max(swapped, longer, *(f.objectives.max() for f in found.values()))
        row = {
            "table": seed,
            "best": best,
            "swap": swapped / best,
            "swap of the first": first / best,
        }
        for name, result in found.items():
            row[f"{name} best"] = result.objectives.max() / best
            row[f"{name} mean"] = result.objectives.mean() / best
            near = np.flatnonzero(result.objectives >= 0.999 * best)
            row[f"{name} within 0.1 %"] = int(near[0]) + 1 if len(near) else None
        rows.append(row)
        print(
            "  "
            + ", ".join(f"{k} {v:.5g}" if v is not None else f"{k} never" for k, v in row.items())
        )
    total = {
        "mean of exact above kl": sum(bool(r["exact mean"] > r["kl mean"]) for r in rows),
        "best of exact not below kl": sum(bool(r["exact best"] >= r["kl best"]) for r in rows),
        "swap adds": sum(bool(r["swap"] > r["exact best"]) for r in rows),
    }
    print(f"  of {len(rows)} tables: {total}")
    return {"rows": rows, **total}


def _first(found: Restarts) -> Restarts:
    """Return the first restart alone."""
    return Restarts(found.seeds[:1], found.objectives[:1], found.iterations[:1], found.best)


def gaps(args: argparse.Namespace) -> dict[str, Any]:
    """Part 3."""
    print("part 3: gap to the upper bound, in per cent of the bound, over wall seconds")
    rows = []
    for seed in range(args.tables):
        for noise in args.noises:
            problem = problem_of(seed, noise=noise)
            found = find_restarts(problem, "exact", restart_seeds(seed, RESTARTS))
            best = float(found.objectives.max())
            simple = upper_bound(problem)
            told = [(0.0, simple)]  # seconds, and the best bound then

            def note(spent: float, value: float, told: Any = told) -> None:
                told.append((spent, value))

            seconds, bound = cpu(
                lambda p=problem, b=best, note=note: lagrangian_bound(p, b, args.seconds, note)
            )
            after = {t: min(v for s, v in told if s <= t) for t in (1, 5, args.seconds)}
            row = {"table": seed, "noise": noise, "simple": 1 - best / simple}
            row |= {f"after {t:g} s": 1 - best / v for t, v in after.items()}
            row |= {"final": 1 - best / bound.value, "steps": bound.steps, "CPU s": seconds,
                    "settled": bound.settled}  # fmt: skip
            if 1 - best / bound.value > 1e-5:  # is the search or the relaxation to blame?
                more = run_restarts(problem, "exact", restart_seeds(10_000 + seed, args.more))
                longer = float(polished(problem, more).objectives.max())
                row["longer search adds"] = longer / best - 1
            rows.append(row)
            print("  " + ", ".join(
                f"{k} {100 * v:.4f} %" if isinstance(v, float) and k not in ("noise", "CPU s")
                else f"{k} {v if not isinstance(v, float) else round(v, 2)}"
                for k, v in row.items()
            ))  # fmt: skip
    return {"rows": rows}


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Part 4; each size in a process of its own, so that its memory is its own."""
    print("part 4: solver time (CPU s) and memory over the number of models")
    rows = []
    for models in args.models:
        command = [sys.executable, __file__, "--one-size", str(models)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append(json.loads(told.strip().splitlines()[-1]))
        print("  " + ", ".join(f"{k} {v:.5g}" for k, v in rows[-1].items()))
    for what in ("exact", "kl"):
        rate = [row[f"{what} per model ms"] for row in rows]
        middle = (max(rate) + min(rate)) / 2
        print(f"  {what}: time per model within ± {max(rate) / middle - 1:.1%} of the middle")
    return {"rows": rows}


def one_size(models: int) -> dict[str, float]:
    """Measure one zoo of part 4; medians of three runs with different seeds."""
    import resource

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    table = zoo_like(models)
    row: dict[str, float] = {"models": models, "cuts": len(table.values)}
    before = peak()
    row["build s"], problem = cpu(lambda: from_table(table, k=K, eps=EPS, one_per_set=False))
    _ = problem.lattice, problem.feasible, problem.largest, problem.cut_model  # once a table
    row["MB with the table"] = peak()
    row["MB of the table"] = problem.values.nbytes / 2**20
    run_restarts(problem, "exact", restart_seeds(9, 5))
    for method in ("exact", "kl"):
        times = []
        for seed in range(3):
            seconds, found = cpu(
                lambda m=method, s=seed: run_restarts(problem, m, restart_seeds(s, RESTARTS // 4))
            )
            times.append(4 * seconds)
        row[f"{method} s"] = statistics.median(times)
        row[f"{method} per model ms"] = 1000 * row[f"{method} s"] / models
    row["MB the solver adds"] = peak() - max(before, row["MB with the table"])
    row["mean objective / model"] = float(found.objectives.mean()) / models
    return row


def on_ray(args: argparse.Namespace) -> dict[str, Any]:
    """Part 5."""
    import partition_ray

    return partition_ray.on_ray(args.ray_models)


def sets(args: argparse.Namespace) -> dict[str, Any]:
    """Part 6."""
    import partition_sets

    return partition_sets.sets(args.tables, args.noises)


PARTS = {1: speed, 2: objectives, 3: gaps, 4: growth, 5: on_ray, 6: sets}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default="1,2,3,4,5,6", help="which parts, such as 1,3")
    parser.add_argument("--repeats", type=int, default=5, help="part 1: turns")
    parser.add_argument("--plain", type=int, default=5, help="part 1: plain restarts a turn")
    parser.add_argument("--tables", type=int, default=10, help="parts 2, 3, 6: generated tables")
    parser.add_argument("--noise", type=float, default=0.05, help="part 2: noise of each pair")
    parser.add_argument(
        "--noises", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.2], help="parts 3, 6"
    )
    parser.add_argument("--more", type=int, default=2000, help="restarts of the longer search")
    parser.add_argument("--seconds", type=float, default=60.0, help="part 3: for each bound")
    parser.add_argument("--models", type=int, nargs="+", default=[24, 48, 96, 192, 384])
    parser.add_argument("--ray-models", type=int, default=96, help="part 5: models of the zoo")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    parser.add_argument("--one-size", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_size is not None:
        print(json.dumps(one_size(args.one_size)))
        return
    figures = {part: PARTS[part](args) for part in map(int, args.part.split(","))}
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
