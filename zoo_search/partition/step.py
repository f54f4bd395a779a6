"""The step ``partition``: restarts on Ray actors where that pays, and ``partition.json``."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo_search import engine
from zoo_search.partition.actors import Actors, Job, actors
from zoo_search.partition.api import finish
from zoo_search.partition.lagrange import lagrangian_bound, quick_bound
from zoo_search.partition.polish import finalists, improve, polish_one
from zoo_search.partition.problem import PartitionProblem, TableLike, from_table
from zoo_search.partition.restarts import Restarts, merge, restart_seeds, run_restarts
from zoo_search.progress import Bar, progress

if TYPE_CHECKING:
    from zoo_search.config import PartitionConfig
    from zoo_search.partition.result import Partition
    from zoo_search.store import RunStore

__all__ = ["ARTIFACT", "partition_table", "search", "solve", "spread"]

ARTIFACT = "partition.json"
_CHUNK = 25
_WORTH_ACTORS = 4.0
_JOBS_PER_ACTOR = 4


def solve(table: TableLike, config: PartitionConfig, seed: int, store: RunStore) -> Partition:
    """Partition the zoo of a similarity table and write ``partition.json``.

    Raises:
        UserError: As :func:`zoo_search.partition.api.partition`.
    """
    result = partition_table(table, config, seed)
    store.write_json(ARTIFACT, result.to_dict())
    return result


def partition_table(table: TableLike, config: PartitionConfig, seed: int) -> Partition:
    """Partition the zoo of a similarity table, with progress.

    Restarts run on the connected Ray cluster if what is left of them takes longer than actors need
    to start, else in this process. The sets are the same, bit for bit.

    Raises:
        UserError: As :func:`zoo_search.partition.api.partition`.
    """
    problem = from_table(
        table, k=config.k, eps=config.eps, size=config.size, one_per_set=config.one_per_set
    )
    seeds = restart_seeds(seed, config.restarts)
    found = search(problem, config.method, seeds, workers=config.workers)
    if config.certify > 0:
        bound = _certified(problem, found, config.certify)
    else:
        bound = quick_bound(problem, float(found.best.objective[0]))
    return finish(problem, config.method, found, bound)


def _certified(problem: PartitionProblem, found: Restarts, seconds: float) -> float:
    """Return an upper bound, showing how far the answer may be from the best."""
    best, told = float(found.best.objective[0]), 0
    with progress("upper bound", math.ceil(seconds)) as bar:

        def note(spent: float, bound: float) -> None:
            nonlocal told
            whole = min(int(spent), math.ceil(seconds))
            if whole > told:
                gap = (bound - best) / max(abs(bound), 1e-12)
                bar.advance(whole - told, note=f"gap {gap:.3%}")
                told = whole

        return lagrangian_bound(problem, best, seconds, note).value


def spread(
    problem: PartitionProblem,
    method: str,
    seeds: NDArray[np.int64],
    *,
    workers: int | None = None,
    chunk: int | None = None,
    worth_a_worker: float = _WORTH_ACTORS,
) -> Restarts:
    """Run the restarts, on Ray where that pays; no split changes the answer.

    Args:
        problem: The problem.
        method: ``exact``, ``kl`` or ``random``.
        seeds: One per restart.
        workers: Ray actors; default: one a CPU of the cluster.
        chunk: Restarts per job of an actor; default: a few jobs for each actor.
        worth_a_worker: Estimated seconds of work left from which on Ray is used, if connected.
    """
    with ExitStack() as stack, progress("partition", len(seeds)) as bar:
        how = _How(stack, workers, chunk, worth_a_worker)
        return _restarts(problem, method, seeds, how, _Note(bar))[0]


def search(
    problem: PartitionProblem,
    method: str,
    seeds: NDArray[np.int64],
    *,
    workers: int | None = None,
    chunk: int | None = None,
    worth_a_worker: float = _WORTH_ACTORS,
) -> Restarts:
    """Run the restarts as :func:`spread` does, and improve the best few, on the same actors."""
    with ExitStack() as stack:
        how = _How(stack, workers, chunk, worth_a_worker)
        with progress("partition", len(seeds)) as bar:
            found, group = _restarts(problem, method, seeds, how, _Note(bar))
        chosen = [found.seeds[[i]] for i in finalists(method, found)]
        with progress("from the best restarts", len(chosen)) as bar:
            return improve(found, _polished(problem, method, chosen, _Note(bar), group))


@dataclass(frozen=True)
class _How:
    """Where restarts run; the stack ends the actors."""

    stack: ExitStack
    workers: int | None
    chunk: int | None
    worth_a_worker: float


def _restarts(
    problem: PartitionProblem, method: str, seeds: NDArray[np.int64], how: _How, note: _Note
) -> tuple[Restarts, Actors | None]:
    """Return the restarts, and the actors if these were worth starting."""
    done: list[Restarts] = []
    begun = time.perf_counter()
    left = seeds
    while len(left):
        ran = len(seeds) - len(left)
        rate = (time.perf_counter() - begun) / ran if ran else 0.0
        if engine.connected() and rate * len(left) >= how.worth_a_worker:
            group = how.stack.enter_context(actors(problem, how.workers))
            done += group.run(_jobs(group, method, left, how.chunk), note)
            return merge(done), group
        part = run_restarts(problem, method, left[:_CHUNK])
        done.append(part)
        note(part)
        left = left[_CHUNK:]
    return merge(done), None


def _jobs(group: Actors, method: str, seeds: NDArray[np.int64], chunk: int | None) -> list[Job]:
    """Return the restarts in jobs."""
    length = chunk or max(1, -(-len(seeds) // (_JOBS_PER_ACTOR * group.count)))
    parts = [seeds[low : low + length] for low in range(0, len(seeds), length)]
    return [Job(run_restarts, (method, part)) for part in parts]


def _polished(
    problem: PartitionProblem,
    method: str,
    chosen: list[NDArray[np.int64]],
    note: _Note,
    group: Actors | None,
) -> list[Restarts]:
    """Go on from the restarts with these seeds, each [1], on the actors if there are any."""
    if group is not None:
        return group.run([Job(polish_one, (method, seed)) for seed in chosen], note)
    improved = []
    for seed in chosen:
        improved.append(polish_one(problem, method, seed))
        note(improved[-1])
    return improved


class _Note:
    """Reports finished restarts with the best objective so far."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._best = bar, -np.inf

    def __call__(self, part: Restarts) -> None:
        self._best = max(self._best, float(part.objectives.max()))
        self._bar.advance(len(part.seeds), note=f"best objective {self._best:.4f}")
