"""Errors that a user can mend: one paragraph and exit code 2. All others are a fault of ours."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

from zoo_search.core.redaction import shown


class UserError(Exception):
    """What went wrong, where, what is allowed, and what to do, in one paragraph.

    Keys and signatures in addresses are hidden, signs that steer a terminal are escaped, names that
    are no UTF-8 can be printed, and lines are one, whatever was quoted.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in shown(message).splitlines()))


class Note(FutureWarning):
    """What a user should know and may change some day, in one line."""


def first_line(error: object) -> str:
    """Return the first line of an error without its full stop; its type's name if it is silent."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def clipped(value: object, most: int = 80) -> str:
    """Return what somebody gave as it is quoted in a message: in one line, and not too long."""
    text = str(value) if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 4 :]}"


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the allowed word closest to ``word``, else ``""``."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def require(word: str, allowed: Collection[str], problem: str, has: str = "Allowed") -> None:
    """Raise a :class:`UserError` of the problem, the nearest and all allowed words, if needed."""
    if word not in allowed:
        raise UserError(f"{problem}{nearest(word, allowed)} {has}: {', '.join(allowed)}.")


def some(items: Sequence[str], between: str = "; ", last: str = "; and") -> str:
    """Return the first five items, and how many more there are."""
    more = f"{last} {len(items) - 5} more" if len(items) > 5 else ""
    return between.join(items[:5]) + more
