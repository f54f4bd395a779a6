"""Train, validation and test where a source tells its splits by words."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

VALIDATION = ("val", "valid", "validation")
HELD_OUT = ("test", *VALIDATION)
"""Names of held-out splits."""

_SPLIT = re.compile(r"(?:^|[/_.-])(train|test|validation|valid|val)(?:[/_.-]|$)")


def split_in(name: str) -> str | None:
    """Return the first word of a file's path that names a split."""
    word = _SPLIT.search(name)
    return word[1] if word else None


def held_out(names: Collection[str | None]) -> dict[str, str]:
    """Return the held-out splits of a source that has splits of these names, each with its name.

    ``test`` is the test split, and beside it the first of :data:`VALIDATION` the validation split.
    Without ``test``, the first of :data:`VALIDATION` is the test split.
    """
    found = [name for name in ("test",) if name in names]
    found += [name for name in VALIDATION if name in names][:1]
    return dict(zip(("test", "validation"), found, strict=False))


def by_split(words: Sequence[str | None]) -> tuple[list[int], list[str] | None]:
    """Return the images to keep and their splits, by the words that images come with.

    Without a training and a held-out split, all are kept and the splits are None.
    """
    names = set(words)
    split: dict[str | None, str] = {name: part for part, name in held_out(names).items()}
    if "train" not in names or not split:
        return list(range(len(words))), None
    split["train"] = "train"
    keep = [i for i, name in enumerate(words) if name in split]
    return keep, [split[words[i]] for i in keep]
