"""R restarts, each with its own seed, state and patience; the best wins, ties by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo_search.errors import UserError, nearest
from zoo_search.partition import exact, kl, random_partition
from zoo_search.partition.objective import State
from zoo_search.partition.problem import PartitionProblem

__all__ = ["METHODS", "PATIENCE", "Restarts", "best_of", "merge", "restart_seeds", "run_restarts"]

Climb = Callable[[PartitionProblem, State, int], tuple[State, NDArray[np.int64]]]
METHODS: dict[str, Climb] = {
    "exact": exact.climb,
    "kl": kl.climb,
    "random": random_partition.cluster_only,
}
PATIENCE = 3


@dataclass(frozen=True, eq=False)
class Restarts:
    """What some restarts found.

    Attributes:
        seeds: Seed of each restart, shape [R].
        objectives: Eq. 2 of each, shape [R].
        iterations: Iterations of each, shape [R].
        best: The winner among them, one partition.
    """

    seeds: NDArray[np.int64]
    objectives: NDArray[np.float64]
    iterations: NDArray[np.int64]
    best: State


def restart_seeds(seed: int, restarts: int) -> NDArray[np.int64]:
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


def run_restarts(
    problem: PartitionProblem, method: str, seeds: NDArray[np.int64], patience: int = PATIENCE
) -> Restarts:
    """Run the restarts with these seeds; each is independent of the others, bit for bit.

    Raises:
        UserError: If the method is unknown.
    """
    if method not in METHODS:
        raise UserError(
            f"'partition.method' is '{method}', which is no method.{nearest(method, METHODS)} "
            f"Allowed: {', '.join(METHODS)}."
        )
    start = random_partition.random_states(problem, seeds)
    state, iterations = METHODS[method](problem, start, patience)
    winner = np.lexsort((seeds, -state.objective))[:1]
    return Restarts(seeds, state.objective, iterations, state.take(winner))


def merge(parts: Iterable[Restarts]) -> Restarts:
    """Return the union of restarts, in the order given."""
    listed = list(parts)
    return Restarts(
        np.concatenate([part.seeds for part in listed]),
        np.concatenate([part.objectives for part in listed]),
        np.concatenate([part.iterations for part in listed]),
        best_of(listed),
    )


def best_of(parts: list[Restarts]) -> State:
    """Return the partition with the largest objective; ties go to the smallest seed."""
    keys = [(-part.objectives[i], part.seeds[i]) for part in parts for i in [_winner(part)]]
    return parts[min(range(len(parts)), key=keys.__getitem__)].best


def _winner(part: Restarts) -> int:
    """Return the index of the best restart of a part."""
    return int(np.lexsort((part.seeds, -part.objectives))[0])
