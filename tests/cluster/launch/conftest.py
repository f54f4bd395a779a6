from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import zoo_search

CLUSTERS = Path(zoo_search.__file__).parents[1] / "clusters"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Write an example with some values changed, each given by its place (``provider.type``)."""

    def write(name: str, **changes: Any) -> Path:
        config = yaml.safe_load((CLUSTERS / f"{name}.yaml").read_text(encoding="utf-8"))
        for place, value in changes.items():
            *inside, key = place.split("__")
            at = config
            for each in inside:
                at = at[each]
            at[key] = value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    return write
