"""zoo-search: networks reassembled from the blocks of a zoo of pre-trained vision models.

The public names are loaded on first use, so that ``import zoo_search`` imports neither torch nor
Ray, timm or Optuna.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Budget": "zoo_search.reassembly",
    "LineGraph": "zoo_search.linegraph",
    "Recipe": "zoo_search.reassembly",
    "UserError": "zoo_search.errors",
    "assemble": "zoo_search.reassembly",
    "load": "zoo_search.export",
    "load_zoo": "zoo_search.zoo",
    "register_hook": "zoo_search.hooks",
    "search": "zoo_search.reassembly",
    "trace": "zoo_search.linegraph",
}

_CALLABLE = ("partition", "similarity")
"""Packages that are public functions at once."""

__all__ = ["__version__", *_PUBLIC, *_CALLABLE]

if TYPE_CHECKING:
    from zoo_search.errors import UserError as UserError
    from zoo_search.export import load as load
    from zoo_search.hooks import register_hook as register_hook
    from zoo_search.linegraph import LineGraph as LineGraph
    from zoo_search.linegraph import trace as trace
    from zoo_search.reassembly import Budget as Budget
    from zoo_search.reassembly import Recipe as Recipe
    from zoo_search.reassembly.assemble import assemble as assemble
    from zoo_search.reassembly.search import search as search
    from zoo_search.zoo import load_zoo as load_zoo


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoo_search' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
