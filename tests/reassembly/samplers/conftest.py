"""Spaces that can be listed, and scores of all of their recipes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo_search.costs import Budget, CostTable
from zoo_search.reassembly import Space

LIMITS = {"max_params": 8e6, "max_macs": 6e7}


@pytest.fixture(scope="session")
def space(zoo, free_partition) -> Space:
    """Any block at its stage, within a budget: some 100 recipes."""
    space = Space(free_partition, CostTable(zoo, 4), Budget(**LIMITS))
    assert 100 < len(space.enumerate()) < 256
    return space


@pytest.fixture(scope="session")
def wide(zoo, free_partition) -> Space:
    """The same without a budget: 256 recipes."""
    return Space(free_partition, CostTable(zoo, 4), Budget())


@pytest.fixture(scope="session")
def scores(wide) -> dict[str, float]:
    """A sum over blocks and pairs, with noise."""
    rng = np.random.default_rng(5)
    weight: dict[object, float] = {}

    def of(item: object, size: float) -> float:
        return weight.setdefault(item, size * rng.normal())

    return {
        r.key: sum(of(b, 1.0) for b in r.blocks)
        + sum(of(p, 0.5) for p in itertools.pairwise(r.blocks))
        + 0.1 * rng.normal()
        for r in wide.enumerate()
    }
