"""Random values as a choice: the hook ``random``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from zoo_search.hooks.context import Context

__all__ = ["keep_random"]


def keep_random(module: nn.Module, context: Context) -> None:
    """Leave the seeded random values that every piece starts with."""
