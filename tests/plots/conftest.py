"""Pictures are looked at before they are bytes."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[Axes]]:
    """Return a list that gets the axes of every picture that a module of pictures draws."""

    def watch(module: ModuleType) -> list[Axes]:
        found: list[Axes] = []

        def render(figure: Figure, form: str = "svg") -> bytes:
            found.extend(figure.axes)
            return b""

        monkeypatch.setattr(module, "render", render)
        return found

    return watch
