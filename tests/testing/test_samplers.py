"""Every sampler of ours keeps to the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from testing.running import check_broken

from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.testing.samplers import Maker, SamplerContract


@pytest.mark.parametrize("name", SAMPLERS.ours)
class TestOurs(SamplerContract):
    @pytest.fixture
    def sampler(self, name: str) -> Maker:
        return SAMPLERS.get(name, "tests")


def test_a_broken_sampler_fails() -> None:
    check_broken(Path(__file__).with_name("broken_samplers.py"), SamplerContract)
