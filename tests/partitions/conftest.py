"""Tables and an independent brute force for the tests of the partition."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from zoo_search.partitions.problem.definition import PartitionProblem, from_table
from zoo_search.partitions.solvers.restarts import Restarts
from zoo_search.similarities.table import ModelCuts, SimilarityTable

Block = tuple[int, int, int]  # model, start, stop


class Brute:
    """Enumerates a small problem with plain loops over its own copy of the numbers."""

    def __init__(self, problem: PartitionProblem) -> None:
        self.p = problem
        self.partitions = [
            [
                tuple((n, a, b) for a, b in itertools.pairwise((0, *inner, len(sizes))))
                for inner in itertools.combinations(range(1, len(sizes)), problem.k - 1)
                if self._within(sizes, (0, *inner, len(sizes)))
            ]
            for n, sizes in enumerate(problem.node_sizes)
        ]

    def _within(self, sizes: Sequence[int], cuts: Sequence[int]) -> bool:
        largest = max(sum(sizes[a:b]) for a, b in itertools.pairwise(cuts))
        # eps is used in these tests with at most three decimals
        return 1000 * largest * self.p.k < (1000 + round(1000 * self.p.eps)) * sum(sizes)

    def similarity(self, block: Block, anchor: Block) -> float:
        row, column = self.p.offsets[block[0]], self.p.offsets[anchor[0]]
        start = self.p.values[row + block[1], column + anchor[1]]
        stop = self.p.values[row + block[2], column + anchor[2]]
        return float(start + stop)

    def model_value(self, blocks: Sequence[Block], anchors: Sequence[Block], keep: bool) -> float:
        """Best value of one model's blocks for these anchors; keep: anchors in their own sets."""
        fit = [[self.similarity(b, a) for a in anchors] for b in blocks]
        own = [anchors.index(b) if keep and b in anchors else None for b in blocks]
        if self.p.one_per_set:
            return max(
                sum(fit[i][s] for i, s in enumerate(choice))
                for choice in itertools.permutations(range(self.p.k))
                if all(o in (None, s) for o, s in zip(own, choice, strict=True))
            )
        return sum(max(f) if o is None else f[o] for f, o in zip(fit, own, strict=True))

    def best(self) -> float:
        """The best objective over all partitions, all anchors and all assignments."""
        best = -np.inf
        for choice in itertools.product(*self.partitions):
            blocks = [block for model in choice for block in model]
            for anchors in itertools.combinations(blocks, self.p.k):
                value = sum(self.model_value(model, anchors, True) for model in choice)
                best = max(best, value)
        return best

    def size(self) -> int:
        """How many pairs of a partition and anchors there are."""
        count = int(np.prod([len(options) for options in self.partitions]))
        blocks = len(self.partitions) * self.p.k
        return count * len(list(itertools.combinations(range(blocks), self.p.k)))


def _values(depths: Sequence[int], seed: int, levels: int | None, symmetric: bool) -> Any:
    rng = np.random.default_rng(seed)
    cells = sum(depths) + len(depths)
    values = rng.uniform(-0.4, 1.0, (cells, cells)).astype(np.float32)
    if levels is not None:
        values = (np.round(values * levels) / levels).astype(np.float32)
    if symmetric:
        values = np.triu(values) + np.triu(values, 1).T
    np.fill_diagonal(values, 1.0)
    return values


@pytest.fixture(scope="session")
def brute() -> Callable[[PartitionProblem], Brute]:
    return Brute


@pytest.fixture(scope="session")
def random_table() -> Callable[..., SimilarityTable]:
    """A table of random values (``levels``: with ties) for models of these depths."""

    def make(
        depths: Sequence[int], seed: int = 0, levels: int | None = None, symmetric: bool = True
    ) -> SimilarityTable:
        rng = np.random.default_rng(seed + 1)
        models = {
            f"m{n}": ModelCuts(
                ["image", *(f"node{i}" for i in range(depth))],
                [int(x) for x in rng.integers(1, 100, depth)],
                [int(x) for x in rng.integers(1, 100, depth)],
            )
            for n, depth in enumerate(depths)
        }
        return SimilarityTable(models, _values(depths, seed, levels, symmetric))

    return make


@pytest.fixture(scope="session")
def random_problem(random_table: Callable[..., SimilarityTable]) -> Callable[..., PartitionProblem]:
    """A problem on a random table whose nodes have equal or given sizes."""

    def make(
        depths: Sequence[int],
        *,
        k: int,
        eps: float = 1.0,
        seed: int = 0,
        levels: int | None = None,
        symmetric: bool = True,
        sizes: Sequence[Sequence[int]] | None = None,
        one_per_set: bool = False,
    ) -> PartitionProblem:
        table = random_table(depths, seed, levels, symmetric)
        if sizes is not None:
            models = {
                name: ModelCuts(model.cuts, list(given), list(given))
                for (name, model), given in zip(table.models.items(), sizes, strict=True)
            }
            table = SimilarityTable(models, table.values)
        size = "nodes" if sizes is None else "params"
        return from_table(table, k=k, eps=eps, size=size, one_per_set=one_per_set)

    return make


@pytest.fixture(scope="session")
def same() -> Callable[[Restarts, Restarts], None]:
    """Asserts that two sets of restarts agree bit for bit."""

    def check(one: Restarts, other: Restarts) -> None:
        np.testing.assert_array_equal(one.seeds, other.seeds)
        np.testing.assert_array_equal(one.objectives, other.objectives)
        np.testing.assert_array_equal(one.iterations, other.iterations)
        for name in ("cuts", "sets", "anchors", "objective"):
            np.testing.assert_array_equal(getattr(one.best, name), getattr(other.best, name))

    return check
