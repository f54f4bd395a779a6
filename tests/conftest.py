"""Shared fixtures: one Ray for the whole test session, with its own HOME and token."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.pop("RAY_ADDRESS", None)
# Ray reads these when it is imported; without a token it would write one into the user's HOME.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)


@pytest.fixture(scope="session")
def private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A HOME of the tests' own, so that nothing is read from or written to the user's."""
    home = tmp_path_factory.mktemp("home")
    before = os.environ.get("HOME", "")
    os.environ["HOME"] = str(home)
    yield home
    os.environ["HOME"] = before


@pytest.fixture(scope="session")
def ray_cluster(private_home: Path) -> Iterator[None]:
    """One local Ray with two CPUs, started through the project's own engine."""
    from zoo_search import engine

    engine.connect("local", num_cpus=2)
    yield
    engine.disconnect()
