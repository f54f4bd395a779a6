"""Train, validation and test where a source tells its splits by words."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

HELD_OUT = ("test", "val", "valid", "validation")
"""Names of held-out splits; the first of these that a source has is its test split. Beside one that
is called so, the next one is the validation split; the others are not used."""

_SPLIT = re.compile(r"(?:^|[/_.-])(train|test|validation|valid|val)(?:[/_.-]|$)")


def split_in(name: str) -> str | None:
    """Return the first word of a file's path that names a split."""
    word = _SPLIT.search(name)
    return word[1] if word else None


def named_splits(names: Collection[str | None]) -> dict[str, str]:
    """Return which of a source's names of splits is ``test``, and which ``validation``, if any."""
    there = [name for name in HELD_OUT if name in names]
    if not there:
        return {}
    beside = there[1:2] if there[0] == "test" else []
    return {there[0]: "test", **dict.fromkeys(beside, "validation")}


def train_and_held_out(split: Sequence[str | None]) -> tuple[list[int], list[str] | None]:
    """Return the images to keep and their splits; None where there are no two splits."""
    known = named_splits(set(split))
    if "train" not in split or not known:
        return list(range(len(split))), None
    known["train"] = "train"
    keep = [i for i, name in enumerate(split) if name in known]
    return keep, [known[str(split[i])] for i in keep]
