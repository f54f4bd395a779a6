"""Train, validation and test where a source tells its splits by words."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence

from zoo_search.config import SplitsConfig
from zoo_search.core.errors import Note, UserError
from zoo_search.data.splits import SPLITS, Split

WORDS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "tr"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What splits are called, in any case."""
HELD_OUT = ("test", "val", "valid", "validation")
"""Names of held-out splits in libraries."""
UNSURE = ("tr", "dev", "eval", "evaluation")
"""Words that mean other things as well."""

_SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}


def split_of(word: str | None) -> Split | None:
    """Return the split that a word names, whatever its case; None: none."""
    return None if word is None else _SPLIT_OF.get(word.lower())


def split_in(name: str, given: SplitsConfig | None = None) -> str | None:
    """Return the first word of a file's path that names a split, as it stands there.

    With a mapping that is the first of its words; else those of :data:`UNSURE` count only where
    there is no other.
    """
    if given is not None:
        return None if given.drawn else _first(name, tuple(given.named().values()), 0)
    sure = [word for word in _SPLIT_OF if word not in UNSURE]
    return _first(name, sure, re.IGNORECASE) or _first(name, UNSURE, re.IGNORECASE)


def _first(name: str, words: Collection[str], flags: int) -> str | None:
    allowed = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    found = re.search(rf"(?:^|[/_.-])({allowed})(?=[/_.-]|$)", name, flags)
    return found[1] if found else None


def assign(
    names: Collection[str | None], given: SplitsConfig | None, what: str
) -> dict[Split, str]:
    """Return the splits of a source that tells them by these names, each with its name.

    A validation split without a test is the test.

    Raises:
        UserError: If two names stand for one split, or the mapping has one that is not there;
            ``what`` says what is named, such as ``folders``.
    """
    there = sorted({name for name in names if name is not None})
    if given is not None:
        if missing := [name for name in given.named().values() if name not in there]:
            raise UserError(
                f"dataset.splits: there are no {what} '{missing[0]}'. Found: "
                f"{', '.join(there) or 'none'}. Name one of them."
            )
        return given.named()
    named: dict[Split, list[str]] = {}
    for name in there:
        if (split := split_of(name)) is not None:
            named.setdefault(split, []).append(name)
    for split, several in named.items():
        if len(several) > 1:
            raise UserError(
                f"dataset.path: the {what} {' and '.join(several)} can both be the {split} split. "
                f"Say which is which, such as {example(named, several[0])}; what is not named "
                "there is left out."
            )
    if "test" not in named and "validation" in named:
        named["test"] = named.pop("validation")
    return {split: named[split][0] for split in SPLITS if split in named}


def example(named: dict[Split, list[str]], preferred: str) -> str:
    """Return a mapping that could stand in the run file, one name a split."""
    shown = {s: preferred if preferred in named[s] else named[s][0] for s in SPLITS if s in named}
    shown.setdefault("train", "NAME")
    if "test" not in shown and "validation" in shown:
        shown["test"] = shown.pop("validation")
    return f"dataset.splits: {{{', '.join(f'{s}: {name}' for s, name in shown.items())}}}"


def by_split(
    words: Sequence[str | None], given: SplitsConfig | None = None
) -> tuple[list[int], list[str] | None]:
    """Return the images to keep and their splits, by the words that images come with.

    Without a training and a held-out split, all are kept and the splits are None. What is in none
    of the splits is left out, and that is said.

    Raises:
        UserError: As :func:`assign`.
    """
    drawn = given is not None and given.drawn
    found = {} if drawn else assign(set(words), given, "splits")
    if "train" not in found or len(found) < 2:
        return list(range(len(words))), None
    split: dict[str | None, str] = {name: part for part, name in found.items()}
    keep = [i for i, word in enumerate(words) if word in split]
    if len(keep) < len(words):
        left_out(len(words) - len(keep), set(words) - split.keys())
    return keep, [split[words[i]] for i in keep]


def left_out(count: int, names: Collection[str | None]) -> None:
    """Say that images are in no split."""
    shown = ", ".join(sorted(name for name in names if name is not None))
    told = f"of {shown}" if shown else "that nothing says the split of"
    warnings.warn(
        f"dataset.path: {count} images {told} are in none of the splits and are left out; "
        "dataset.splits can name them",
        Note,
        stacklevel=2,
    )
