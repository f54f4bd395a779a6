"""YAML with comments for people who read a run file for the first time."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

import yaml

from zoo_search.core.redaction import HIDDEN, redacted

_WIDTH = 79


def comment(words: str, indent: int = 0) -> str:
    """Return a paragraph as lines of comments, whatever names are in it.

    A sign that YAML takes for the end of a line, or for none of its own, is an escape; keys to
    storage are left out.
    """
    one_line = redacted(words).replace(HIDDEN, "…")
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in one_line)
    margin = " " * indent + "# "
    lines = textwrap.wrap(safe, _WIDTH - len(margin), break_on_hyphens=False) or [""]
    return "\n".join((margin + line).rstrip() for line in lines)


def comments(paragraphs: Iterable[str], indent: int = 0) -> str:
    """Return several paragraphs, each marked by a dash."""
    found = []
    for words in paragraphs:
        first, *more = comment(f"- {words}", indent).split("\n")
        pad = " " * indent + "# "
        found += [first, *(f"{pad}  {line.removeprefix(pad)}" for line in more)]
    return "\n".join(found)


def inline(value: object) -> str:
    """Return a value as YAML in one line, quoted where YAML would read something else."""
    # In a list it has neither an end mark nor an indentation of its own. A text with line breaks
    # stays in one line only between double quotes.
    quoted = isinstance(value, str) and not value.isprintable()
    dumped: str = yaml.safe_dump(
        [value],
        default_flow_style=True,
        default_style='"' if quoted else None,
        allow_unicode=_is_printable(value),  # else escapes: of a line break in a list, too
        sort_keys=False,
        width=10**9,
    )
    return dumped.strip()[1:-1]


def _is_printable(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_printable(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple):
        return all(map(_is_printable, value))
    return not isinstance(value, str) or value.isprintable()


def entry(key: str, value: object, indent: int = 0) -> str:
    """Return one line of a mapping."""
    return f"{' ' * indent}{inline(key)}: {inline(value)}"


def block(key: str, values: Mapping[str, object], indent: int = 0) -> str:
    """Return a section: a line for each value."""
    lines = [entry(name, value, indent + 2) for name, value in values.items()]
    return "\n".join([f"{' ' * indent}{inline(key)}:", *lines])


def short(value: float) -> str:
    """Return a large number as people write it in a run file, such as ``3.5e6``."""
    digits, _, exponent = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}" if value >= 1e4 else f"{value:g}"
