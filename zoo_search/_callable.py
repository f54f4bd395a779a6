"""Packages that can be called, where a public function and its package share a name.

``zoo_search.partition`` is the package of that step and, by ``docs/design.md``, a public function
too. Whichever was imported first would hide the other, so the package itself takes the call.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["make_callable"]


def make_callable(package: str, module: str, function: str) -> None:
    """Let a call of ``package`` be one of ``module.function``, imported on first use."""

    class CallablePackage(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(module), function)(*args, **kwargs)

    sys.modules[package].__class__ = CallablePackage
