r"""Names of files that are no UTF-8, as text that can be printed, hashed and written anywhere.

Python gives each byte that is no UTF-8 as a lone surrogate, which neither UTF-8 nor Arrow can hold.
Here such a byte is ``\xe9``: four signs. So that a name comes back as it was, a backslash that
begins what reads like one of these is ``\x5c``.
"""

from __future__ import annotations

import re

_BYTE = re.compile("[\udc80-\udcff]")
_ALIKE = re.compile(r"\\(?=x(?:[89a-f][0-9a-f]|5c))")
_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f]|5c)")


def escaped(name: str) -> str:
    """Return a name of a file as valid text; :func:`restored` gives it back."""
    if "\\" in name:
        name = _ALIKE.sub(r"\\x5c", name)
    return printable(name)


def restored(text: str) -> str:
    """Return the name that :func:`escaped` was given, as Python opens it."""
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda m: "\\" if m[1] == "5c" else chr(0xDC00 + int(m[1], 16)), text)


def printable(text: str) -> str:
    """Return a text in which bytes that are no UTF-8 are ``\\xe9``; nothing else changes."""
    if text.isascii():
        return text
    return _BYTE.sub(lambda m: f"\\x{ord(m[0]) - 0xDC00:02x}", text)
