"""A small winner that knows digits, as a folder, and digits as files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_winner import Made, make_winner


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Its folder, and what it was made from."""
    return make_winner(tmp_path_factory.mktemp("winner"))
