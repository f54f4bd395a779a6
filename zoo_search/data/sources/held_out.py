"""Train and test where a source tells its splits by words."""

from __future__ import annotations

import re
from collections.abc import Sequence

HELD_OUT = ("test", "val", "valid", "validation")
"""Names of held-out splits; where a source has several, the first of these is the test split."""

_SPLIT = re.compile(r"(?:^|[/_.-])(train|test|validation|valid|val)(?:[/_.-]|$)")


def split_in(name: str) -> str | None:
    """Return the first word of a file's path that names a split."""
    word = _SPLIT.search(name)
    return word[1] if word else None


def train_and_test(split: Sequence[str | None]) -> tuple[list[int], list[str] | None]:
    """Return the images to keep and their splits; None where there are no two splits."""
    held_out = next((name for name in HELD_OUT if name in split), None)
    if "train" not in split or held_out is None:
        return list(range(len(split))), None
    keep = [i for i, name in enumerate(split) if name in ("train", held_out)]
    return keep, ["train" if split[i] == "train" else "test" for i in keep]
