"""Seeded similarity tables like those of the paper's zoo: 24 models of 8 to 33 nodes."""

from __future__ import annotations

import numpy as np

from zoo_search.partitions.problem.definition import PartitionProblem, from_table
from zoo_search.partitions.problem.limits import smallest_eps
from zoo_search.similarities.table import ModelCuts, SimilarityTable

K, EPS, RESTARTS = 4, 0.2, 200


def depths(models: int, seed: int) -> list[int]:
    """Return depths from 8 to 33 that have a partition into K blocks; both ends are there."""
    fits = [d for d in range(8, 34) if smallest_eps([1] * d, K) <= EPS]
    rng = np.random.default_rng(seed)
    return [8, 33, *(int(d) for d in rng.choice(fits, models - 2))]


def zoo_like(models: int = 24, seed: int = 0, noise: float = 0.05) -> SimilarityTable:
    """Return a table with the diagonal pattern: a cut's features are a bump at its depth.

    Features carry noise of the cut's own, depths are warped for each model, and every pair of
    cuts gets symmetric noise of its own, of standard deviation ``noise``.
    """
    rng = np.random.default_rng((seed, models))
    centres = np.linspace(0, 1, 24)
    rows, names = [], {}
    for n, depth in enumerate(depths(models, seed)):
        at = np.linspace(0, 1, depth + 1) ** np.exp(rng.normal(0, 0.15))
        at = at + rng.normal(0, 0.02, depth + 1)
        bumps = np.exp(-((at[:, None] - centres) ** 2) / (2 * 0.18**2))
        bumps += rng.normal(0, 0.2, bumps.shape)
        rows.append(bumps / np.linalg.norm(bumps, axis=1, keepdims=True))
        sizes = [int(size) for size in rng.integers(10_000, 100_000, depth)]
        names[f"model{n:03d}"] = ModelCuts([str(i) for i in range(depth + 1)], sizes, sizes)
    features = np.concatenate(rows).astype(np.float32)
    values = features @ features.T
    for row in range(len(values)):
        own = rng.normal(0, noise, len(values) - row - 1).astype(np.float32)
        values[row, row + 1 :] += own
        values[row + 1 :, row] += own
    np.clip(values, 0, 1, out=values)
    np.fill_diagonal(values, 1)
    return SimilarityTable(names, values, {"metric": "cka"})


def problem_of(
    seed: int,
    models: int = 24,
    noise: float = 0.05,
    table: SimilarityTable | None = None,
    one_per_set: bool = False,
) -> PartitionProblem:
    """Return the problem of a generated table, with what is computed once already there.

    It is that of Eqs. 3-5 alone, which the plain version solves, unless ``one_per_set`` is asked
    for.
    """
    table = table or zoo_like(models, seed, noise)
    problem = from_table(table, k=K, eps=EPS, one_per_set=one_per_set)
    _ = problem.lattice, problem.feasible, problem.largest, problem.cut_model
    return problem
