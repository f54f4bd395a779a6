"""R restarts, each with its own seed and state; the best wins, ties by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo_search.core.errors import UserError, require
from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.objective import State
from zoo_search.partitions.solvers import exact, kl, random_partition

Seeds = NDArray[np.int64]
Climb = Callable[[PartitionProblem, State], tuple[State, NDArray[np.int64]]]
METHODS: dict[str, Climb] = {
    "exact": exact.climb,
    "kl": kl.climb,
    "random": random_partition.cluster_only,
}


@dataclass(frozen=True, eq=False)
class Restarts:
    """What some restarts found.

    Attributes:
        seeds: Seed of each restart, shape [R].
        objectives: Eq. 2 of each, shape [R].
        iterations: Iterations of each, shape [R].
        best: The winner among them, one partition.
    """

    seeds: Seeds
    objectives: NDArray[np.float64]
    iterations: NDArray[np.int64]
    best: State


def restart_seeds(seed: int, restarts: int) -> Seeds:
    """Return the seeds of restarts 0..R-1, independent streams of 53 bits spawned from ``seed``.

    Restart i has the same seed whatever R is, and 53 bits survive a JSON reader.

    Raises:
        UserError: If there is no restart, or the seed is negative.
    """
    if restarts < 1:
        raise UserError(f"'partition.restarts' is {restarts}; give 1 or more.")
    if seed < 0:
        raise UserError(f"The seed is {seed}; give a whole number that is not negative.")
    children = np.random.SeedSequence(seed).spawn(restarts)
    words = np.array([child.generate_state(1, np.uint64)[0] for child in children])
    return (words >> np.uint64(11)).astype(np.int64)


def run_restarts(problem: PartitionProblem, method: str, seeds: Seeds) -> Restarts:
    """Run the restarts with these seeds; each is independent of the others, bit for bit.

    Raises:
        UserError: If the method is unknown.
    """
    require(method, METHODS, f"'partition.method' is '{method}', which is no method.")
    start = random_partition.random_states(problem, seeds)
    state, iterations = METHODS[method](problem, start)
    winner = np.lexsort((seeds, -state.objective))[:1]
    return Restarts(seeds, state.objective, iterations, state.take(winner))


def merge(shares: Iterable[Restarts]) -> Restarts:
    """Return the union of restarts, in the order given; the best of all, ties to the seed."""
    listed = list(shares)

    def rank(share: Restarts) -> tuple[float, int]:
        return min(zip(-share.objectives, share.seeds, strict=True))

    return Restarts(
        np.concatenate([one.seeds for one in listed]),
        np.concatenate([one.objectives for one in listed]),
        np.concatenate([one.iterations for one in listed]),
        min(listed, key=rank).best,
    )
