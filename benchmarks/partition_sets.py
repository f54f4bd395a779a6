"""Part 6 of ``partition.py``: what different sets for the blocks of a model cost and give."""

from __future__ import annotations

import statistics
import time
from typing import Any

from zoo_tables import RESTARTS, problem_of

from zoo_search.partitions.agreement import follows_stages
from zoo_search.partitions.executor import InProcess
from zoo_search.partitions.search import find_partition


def sets(tables: int, noises: list[float]) -> dict[str, Any]:
    """Compare ``one_per_set`` with Eqs. 3-5 alone, over generated tables of 24 models.

    Gives medians over the tables: the objective with ``one_per_set`` over that without, how far
    sets follow stages (adjusted mutual information), the share of models of which two blocks share
    a set, and CPU seconds of 200 restarts with their swap search and a quick bound.
    """
    print(f"part 6: {tables} tables, {RESTARTS} restarts; Eqs. 3-5 alone | one_per_set")
    rows = []
    for noise in noises:
        found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for seed in range(tables):
            for one_per_set, told in found.items():
                problem = problem_of(seed, noise=noise, one_per_set=one_per_set)
                start = time.process_time()
                result = find_partition(problem, "exact", seed, RESTARTS, 0, InProcess(problem))
                seconds = time.process_time() - start
                of_model = {
                    name: {block.set for block in result.blocks if block.model == name}
                    for name in problem.models
                }
                shared = sum(len(s) < problem.k for s in of_model.values()) / len(of_model)
                told.append(
                    {
                        "objective": result.objective,
                        "follows stages": follows_stages(result),
                        "models with a shared set": shared,
                        "CPU s": seconds,
                    }
                )
        row: dict[str, Any] = {"noise": noise}
        row["objective, ratio"] = statistics.median(
            one["objective"] / free["objective"]
            for one, free in zip(found[True], found[False], strict=True)
        )
        for name in ("follows stages", "models with a shared set", "CPU s"):
            row[name] = [statistics.median(r[name] for r in found[on]) for on in (False, True)]
        rows.append(row)
        shown = (
            f"{name} {value[0]:.3g} | {value[1]:.3g}" if isinstance(value, list)
            else f"{name} {value:.4g}"
            for name, value in row.items()
        )  # fmt: skip
        print("  " + ", ".join(shown))
    return {"rows": rows}
