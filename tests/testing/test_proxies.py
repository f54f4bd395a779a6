"""Every proxy of ours keeps to the contract, on real digits."""

from __future__ import annotations

from pathlib import Path

import pytest
from testing.running import check_broken
from torch import Tensor

from zoo_search.reassembly.proxies import PROXIES, Proxy
from zoo_search.testing.proxies import ProxyContract


@pytest.mark.parametrize("name", PROXIES.ours)
class TestOurs(ProxyContract):
    @pytest.fixture
    def proxy(self, name: str) -> Proxy:
        return PROXIES.get(name, "tests")

    @pytest.fixture
    def images(self, digits: tuple[Tensor, Tensor]) -> Tensor:
        return digits[0]

    @pytest.fixture
    def labels(self, digits: tuple[Tensor, Tensor]) -> Tensor:
        return digits[1]

    @pytest.fixture(autouse=True)
    def _exclusions(self, name: str) -> None:
        self.reads_weights = name not in ("params", "macs")
        # An EfficientNet has SiLU, which DeRy's code does not look at: its head alone would count.
        self.unscored = ("conv",) if name == "naswot_dery" else ()


def test_a_broken_proxy_fails() -> None:
    check_broken(Path(__file__).with_name("broken_proxies.py"), ProxyContract)
