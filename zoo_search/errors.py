"""Errors that a user can mend.

The command line turns a :class:`UserError` into one paragraph and exit code 2.
Any other exception is a fault of ours: a stack trace and exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "nearest"]


class UserError(Exception):
    """What went wrong, where, what is allowed, and what to do, in one paragraph."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the allowed word closest to ``word``, else ``""``."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
