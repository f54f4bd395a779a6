"""Every sampler of ours keeps to the contract."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from testing.running import check_broken

from zoo_search.costs import Budget, CostTable
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.samplers.spread import SpreadSampler
from zoo_search.reassembly.space import Space, SpaceUnion, make_space
from zoo_search.testing.samplers import Maker, SamplerContract
from zoo_search.testing.small import CLASSES, even_partition, small_zoo


@pytest.mark.parametrize("name", SAMPLERS.ours)
class TestOurs(SamplerContract):
    @pytest.fixture
    def sampler(self, name: str) -> Maker:
        return SAMPLERS.get(name, "tests")


def space_of_two_partitions() -> SpaceUnion:
    """Models in two blocks, of which one may end earlier, and in four; recipes may end early."""
    graphs = {name: model.graph for name, model in small_zoo().items()}
    costs, budget = CostTable(graphs, CLASSES), Budget(max_params=2e5)
    halves = even_partition(graphs, 2)
    moved = next(b for b in halves.blocks if b.model == "resnet")
    halves = replace(halves, shifts=(replace(moved, stop=moved.stop - 1),))
    parts = [halves, even_partition(graphs, 4, {"resnet": [0, 2, 1, 3]})]
    space = make_space(parts, costs, budget, early=True)
    assert isinstance(space, SpaceUnion)
    return space


@pytest.mark.parametrize("name", SAMPLERS.ours)
class TestOursWhereRecipesMayEndEarly(SamplerContract):
    @pytest.fixture
    def space(self) -> Space:
        return space_of_two_partitions().spaces[1]

    @pytest.fixture
    def sampler(self, name: str) -> Maker:
        return SAMPLERS.get(name, "tests")


@pytest.mark.parametrize("name", SAMPLERS.ours)
class TestOursOnTwoPartitions(SamplerContract):
    @pytest.fixture
    def space(self) -> SpaceUnion:
        return space_of_two_partitions()

    @pytest.fixture
    def sampler(self, name: str) -> Any:
        make = SAMPLERS.get(name, "tests")

        def spread(space: Space | SpaceUnion, wanted: int, seed: int) -> Any:
            if isinstance(space, Space):
                return make(space, wanted, seed)
            return SpreadSampler(make, space, wanted, seed)

        return spread


def test_a_broken_sampler_fails() -> None:
    check_broken(Path(__file__).with_name("broken_samplers.py"), SamplerContract)
