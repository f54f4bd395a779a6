"""Every init hook of ours keeps to the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from testing.running import check_broken

from zoo_search.hooks import Init
from zoo_search.hooks.registry import HOOKS
from zoo_search.testing.hooks import HookContract


@pytest.mark.parametrize("name", HOOKS.ours)
class TestOurs(HookContract):
    @pytest.fixture
    def init(self, name: str) -> Init:
        return name

    @pytest.fixture(autouse=True)
    def _random_is_a_choice(self, name: str) -> None:
        self.fills = name != "random"  # type: ignore[misc]


@pytest.mark.slow
def test_a_broken_hook_fails() -> None:
    check_broken(Path(__file__).with_name("broken_hooks.py"), HookContract)
