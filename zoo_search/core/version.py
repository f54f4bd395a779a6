"""The version of the package, once, and the format of the run directories that it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_search.core.errors import UserError

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore

__version__ = "0.1.0"

MARK = "zoo-search.json"
"""Says that a directory is a run's, of which format, and which version made it."""
FORMAT = 1
"""Of the run directories that are read and written."""


def check_format(store: RunStore) -> None:
    """Refuse a run directory that says that it is of a later format.

    One that says nothing, by an earlier version, is not refused.

    Raises:
        UserError: If it is, or what it says of it is damaged.
    """
    if not store.exists(MARK):
        return
    try:
        said = store.read_json(MARK)
        known = said["format"] <= FORMAT
        made_by = str(said["made_by"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{store.path(MARK)} is damaged: it should say the format of the run directory. Copy "
            "the directory again, or remove this one file if the run is yours."
        ) from None
    if not known:
        raise UserError(
            f"The run directory {store.url} was written by zoo-search {made_by}, in a later format "
            f"than this version ({__version__}) knows. Use that version, or give another directory "
            "with --dir."
        )
