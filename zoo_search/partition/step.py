"""The step ``partition``: restarts spread over a Ray cluster, and ``partition.json``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo_search import engine
from zoo_search.partition.api import finish
from zoo_search.partition.problem import PartitionProblem, TableLike, from_table
from zoo_search.partition.restarts import Restarts, merge, restart_seeds, run_restarts
from zoo_search.progress import Bar, progress

if TYPE_CHECKING:
    from zoo_search.config import PartitionConfig
    from zoo_search.partition.result import Partition
    from zoo_search.store import RunStore

__all__ = ["ARTIFACT", "solve", "spread"]

ARTIFACT = "partition.json"
_CHUNK = 25
_WORTH_A_WORKER = 4.0
_TASKS_PER_CPU = 4
_TIMEOUT = 600.0
_RETRIES = 5


def solve(table: TableLike, config: PartitionConfig, seed: int, store: RunStore) -> Partition:
    """Partition the zoo of a similarity table and write ``partition.json``.

    Restarts run on the connected Ray cluster if what is left of them takes longer than a worker
    needs to start, else in this process. The result is the same, bit for bit.

    Raises:
        UserError: As :func:`zoo_search.partition.api.partition`.
    """
    problem = from_table(
        table, k=config.k, eps=config.eps, size=config.size, one_per_set=config.one_per_set
    )
    found = spread(problem, config.method, restart_seeds(seed, config.restarts))
    result = finish(problem, config.method, found)
    store.write_json(ARTIFACT, result.to_dict())
    return result


def spread(
    problem: PartitionProblem,
    method: str,
    seeds: NDArray[np.int64],
    *,
    chunk: int | None = None,
    worth_a_worker: float = _WORTH_A_WORKER,
) -> Restarts:
    """Run the restarts, on Ray where that pays; no split changes the answer.

    Args:
        problem: The problem.
        method: ``exact``, ``kl`` or ``random``.
        seeds: One per restart.
        chunk: Restarts per Ray task; default: a few tasks for each CPU of the cluster.
        worth_a_worker: Estimated seconds of work left from which on Ray is used, if connected.
    """
    with progress("partition", len(seeds)) as bar:
        note = _Note(bar)
        done: list[Restarts] = []
        begun = time.perf_counter()
        left = seeds
        while len(left):
            ran = len(seeds) - len(left)
            rate = (time.perf_counter() - begun) / ran if ran else 0.0
            if engine.connected() and rate * len(left) >= worth_a_worker:
                return merge([*done, *_on_ray(problem, method, left, chunk, note)])
            part = run_restarts(problem, method, left[:_CHUNK])
            done.append(part)
            note(part)
            left = left[_CHUNK:]
        return merge(done)


def _on_ray(
    problem: PartitionProblem,
    method: str,
    seeds: NDArray[np.int64],
    chunk: int | None,
    note: _Note,
) -> list[Restarts]:
    """Run chunks of restarts as Ray tasks; one whose worker or node dies runs again elsewhere."""
    import ray

    tasks = _TASKS_PER_CPU * max(1, engine.resources().cpus)
    length = chunk or max(1, -(-len(seeds) // tasks))
    task = ray.remote(run_restarts).options(num_cpus=1, max_retries=_RETRIES)
    shared = ray.put(problem)
    refs = [
        task.remote(shared, method, seeds[low : low + length])
        for low in range(0, len(seeds), length)
    ]
    return engine.gather(refs, timeout=_TIMEOUT, on_result=lambda _, part: note(part))


class _Note:
    """Reports finished restarts with the best objective so far."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._best = bar, -np.inf

    def __call__(self, part: Restarts) -> None:
        self._best = max(self._best, float(part.objectives.max()))
        self._bar.advance(len(part.seeds), note=f"best objective {self._best:.4f}")
