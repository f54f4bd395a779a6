"""Texts for people: no keys to storage in them, and on a terminal nothing that steers it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from zoo_search.core.byte_names import printable

HIDDEN = "***"
"""What stands in place of a secret."""

_T = TypeVar("_T")
# An address ends at a blank, a quote, a bracket, or where fsspec chains another one to it.
_CHAINED = r"(?!::[A-Za-z][A-Za-z0-9+.-]*(?:://|::))"
_PART = rf"(?:{_CHAINED}[^\s'\"<>`])"
_USER = re.compile(rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>{_PART}*)")
# An address that was taken for a path has one slash left; a name and a password make it one.
_PATH = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]+:)/[^\s'\"<>`/:@]*:[^\s'\"<>`/]*@")
_QUERY = re.compile(rf"(?P<address>\S)\?(?=[^\s'\"<>`]*=){_PART}+")
_FRAGMENT = re.compile(rf"(?P<address>://(?:{_CHAINED}[^\s'\"<>`#])*)#{_PART}+")
# Names of values that are keys, and signs in a row that no plain value has.
_KEY = re.compile(r"(?i)sig|key|token|secret|pass|pwd|cred|auth")
_LONG = re.compile(r"[A-Za-z0-9+_%-]{20}")
# Control signs but tab and line feed, those that turn the direction of text, and lone surrogates.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SIGNS = ")]}.,;:!"
"""What may end the sentence or the brackets around an address."""


def redacted(text: str) -> str:
    """Return a text in which no address holds a secret any more.

    Of every URI what stands before its host is hidden (``s3://KEY:SECRET@bucket``), and its query
    and fragment (signatures, tokens), each as ``***``; a query is hidden also where only the path
    of its URI stands before it, as libraries like to tell it. A text without addresses stays as
    it is.
    """
    if "?" not in text and "@" not in text and "#" not in text:
        return text
    text = _PATH.sub(rf"\g<scheme>/{HIDDEN}@", _USER.sub(_without_user, text))
    text = _FRAGMENT.sub(lambda m: f"{m['address']}#{HIDDEN}{_sign(m[0])}", text)
    return _QUERY.sub(lambda m: f"{m['address']}?{HIDDEN}{_sign(m[0])}", text)


def shown(text: str) -> str:
    r"""Return a text as it is printed: redacted, and signs that steer a terminal as escapes.

    A name that others chose can hold any sign: ``\x1b[2J`` would clear the screen, others change
    its title, turn a line around or cannot be printed at all.
    """
    safe = printable(redacted(text))
    return _STEERING.sub(lambda m: m[0].encode("unicode_escape").decode(), safe)


def holds_key(text: str) -> bool:
    """Say whether an address of a text holds a key: a password, a token, a signature.

    Of a query or fragment that is a value whose name says so, or one as long as keys are.
    """
    without_user = _PATH.sub(rf"\g<scheme>/{HIDDEN}@", _USER.sub(_without_user, text))
    if without_user != text:
        return True
    behind = (m[0] for pattern in (_QUERY, _FRAGMENT) for m in pattern.finditer(text))
    pairs = (pair for part in behind for pair in re.split("[?#&]", part))
    return any(
        _KEY.search(name) or _LONG.search(value)
        for name, _, value in (pair.partition("=") for pair in pairs)
    )


def redacted_values(tree: _T) -> _T:
    """Return nested mappings and lists, their values redacted (:func:`redacted`), not their keys.

    So what is not JSON-like stays.
    """
    found: object = tree
    if isinstance(tree, str):
        found = redacted(tree)
    elif isinstance(tree, Mapping):
        found = {key: redacted_values(value) for key, value in tree.items()}
    elif isinstance(tree, list | tuple):
        found = type(tree)(redacted_values(value) for value in tree)
    return found  # type: ignore[return-value]


def is_redacted(text: str) -> bool:
    """Say whether an address of a text holds no secret because it was hidden."""
    return any(f"{sign}{HIDDEN}" in text for sign in ("://", "?", "#"))


def _without_user(found: re.Match[str]) -> str:
    """Return an address without the keys before its host, if there are any.

    A name alone is none (``mysql://USER@HOST``, ``abfs://CONTAINER@ACCOUNT``), but on the web it
    may be a token.
    """
    scheme, rest = found["scheme"], found["rest"]
    authority = rest.partition("/")[0]
    name, at, _ = authority.rpartition("@")
    port = authority.partition(":")[2]
    if ":" in name or not (at or port.isdecimal() or not port):
        # A password may hold slashes, at-signs and question marks that nobody has escaped: it ends
        # at the last @, for certain.
        name = rest.rpartition("@")[0]
    elif scheme.lower() not in ("http", "https"):
        name = ""
    # github://ORG:REPOSITORY@REVISION/PATH holds no secret.
    hides = name and scheme != "github"
    return f"{scheme}://{HIDDEN}@{rest[len(name) + 1 :]}" if hides else found[0]


def _sign(text: str) -> str:
    """Return what ends the sentence around an address, not the address."""
    return text[len(text.rstrip(_SIGNS)) :]
