"""Errors that a user can mend.

The command line turns a :class:`UserError` into one paragraph and exit code 2.
Any other exception is a fault of ours: a stack trace and exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "first_line", "nearest"]


class UserError(Exception):
    """What went wrong, where, what is allowed, and what to do, in one paragraph."""


def first_line(error: object) -> str:
    """Return the first line of an error without its full stop; its type's name if it is silent."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the allowed word closest to ``word``, else ``""``."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
