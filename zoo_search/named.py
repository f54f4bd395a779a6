"""Functions that run files name: ``module:package.mod:function``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from zoo_search.errors import UserError, first_line, nearest

__all__ = ["PREFIX", "import_named"]

PREFIX = "module:"


def import_named(name: str, where: str) -> Callable[..., Any]:
    """Import the function that ``package.mod:function`` names, with or without the prefix.

    Args:
        name: The name.
        where: Where it stands in the run file, for messages.

    Raises:
        UserError: If the name is incomplete, the module cannot be imported, or there is no such
            function in it.
    """
    path, _, attribute = name.removeprefix(PREFIX).partition(":")
    if not path or not attribute:
        raise UserError(f"{where}: write 'module:package.mod:function', with both colons.")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{where}: no Python module '{error.name}' can be imported. Install the package, or "
            "start zoo-search in the folder that holds the module (or put that folder on "
            "PYTHONPATH)."
        ) from None
    except Exception as error:  # the user's own code
        raise UserError(
            f"{where}: the module '{path}' fails when it is imported: {type(error).__name__}: "
            f"{first_line(error)}. Mend it."
        ) from error
    if not hasattr(module, attribute):
        names = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise UserError(
            f"{where}: module '{path}' has no '{attribute}'.{nearest(attribute, names)}"
        )
    found: Callable[..., Any] = getattr(module, attribute)
    if not callable(found):
        raise UserError(
            f"{where}: '{attribute}' of module '{path}' is of type {type(found).__name__}. Name a "
            "function."
        )
    return found
