"""What a run tells of its data set: how many images of each class there are, and what is odd."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo_search.core.errors import some
from zoo_search.data.base import VisionDataset
from zoo_search.data.checks.duplicates import Twins, twins
from zoo_search.data.checks.look import Look, look, range_said
from zoo_search.data.sources.listing import limits_of
from zoo_search.data.splits import SPLITS

TOLD = "dataset.json"
"""Where a run keeps it, with the fingerprint of the data set."""

_UNEVEN = 10  # times as many training images in one class as in another
_FULL = 65535  # the largest value of 16 bits
_MOST_OF = 0.9  # of the images of a class that are dark or flat, from which the class is


@dataclass(frozen=True)
class Told:
    """What is known of a data set before anything is computed on it.

    Attributes:
        classes: Names of the classes.
        counts: Images of each class, in order, for each split that there is.
        notes: What is odd, a paragraph each.
    """

    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]


def tell(dataset: VisionDataset, seen: Look | None = None) -> Told:
    """Count the images of a data set, and look at some of them, unless they were ``seen``."""
    labels = dataset.index["label"].to_numpy()
    split = np.asarray(dataset.index["split"].to_pylist(), dtype=object)
    counts: dict[str, tuple[int, ...]] = {
        part: tuple(np.bincount(labels[split == part], minlength=len(dataset.classes)).tolist())
        for part in SPLITS
        if (split == part).any()
    }
    ids: list[str] = dataset.index["id"].to_pylist()
    same = twins(dataset.reader, ids, split.tolist(), dataset.sizes)
    seen = look(dataset) if seen is None else seen
    notes = [
        *_uneven(dataset, counts),
        *_in_two(ids, split.tolist(), same),
        *_nearly_in_two(ids, seen, same),
        *_dropped(dataset),
        *_values(dataset, seen),
        *_dark_or_flat(dataset, seen),
    ]
    return Told(dataset.classes, counts, tuple(notes))


def _uneven(dataset: VisionDataset, counts: dict[str, tuple[int, ...]]) -> Iterable[str]:
    train = counts.get("train", ())
    if train and max(train) >= _UNEVEN * max(1, min(train)):
        small, large = int(np.argmin(train)), int(np.argmax(train))
        yield (
            f"The classes are of very different size: {train[large]} training images of "
            f"'{dataset.classes[large]}', {train[small]} of '{dataset.classes[small]}'. An "
            "accuracy tells mostly of the large ones. Add images to the small ones, or take "
            "equally many of each: dataset.per_class."
        )
    lacking = [
        n for n, count in zip(dataset.classes, counts.get("test", ()), strict=False) if not count
    ]
    if lacking and "test" in counts:
        yield (
            f"{len(lacking)} classes have no test image, so that nothing is told of them: "
            f"{some(lacking, ', ', ' and')}. Add images of them to the test."
        )


def _in_two(ids: Sequence[str], split: Sequence[str], same: Twins) -> Iterable[str]:
    if not same.of:
        return
    kinds = {(split[late], split[early]) for late, early in same.of.items()}
    between = " and ".join(f"{late} and {early}" for late, early in sorted(kinds))
    part = "" if same.looked == same.total else f" (of {same.looked} that were compared)"
    yield (
        f"{len(same.of)} of {same.total} held-out images{part} are byte by byte those of another "
        f"split, {between}: {_three(ids, same.of)}. What was trained on tells nothing in a test. "
        "Take them out, or let dataset.dedupe: true leave them out of the test."
    )


def _nearly_in_two(ids: Sequence[str], seen: Look, same: Twins) -> Iterable[str]:
    near = {late: early for late, early in seen.near.items() if late not in same.of}
    if near:
        yield (
            f"{len(near)} held-out images look the same as one of another split, scaled or encoded "
            f"anew: {_three(ids, near)}. Where they are copies, take them out; dataset.dedupe "
            "knows only those that are the same byte by byte."
        )


def _three(ids: Sequence[str], pairs: dict[int, int]) -> str:
    shown = sorted((ids[late], ids[early]) for late, early in pairs.items())
    more = f", and {len(shown) - 3} more" if len(shown) > 3 else ""
    return ", ".join(f"{late} = {early}" for late, early in shown[:3]) + more


def _dropped(dataset: VisionDataset) -> Iterable[str]:
    if dataset.dropped:
        told = " and ".join(f"{n} of the {part}" for part, n in sorted(dataset.dropped.items()))
        yield f"dataset.dedupe left images out that are in another split, too: {told}."


def _values(dataset: VisionDataset, seen: Look) -> Iterable[str]:
    if seen.stored is None:
        return
    (low, high), given = seen.stored, limits_of(dataset.reader)[1]
    black, white = (0, _FULL) if given is None else given
    beyond = low < black or high > white
    if beyond or (given is None and 0 < high <= _FULL / 2):
        what = "what is beyond is cut" if beyond else "which is so much brighter than all of them"
        yield (
            f"The stored values of grey images of more than 8 bits run from {low:g} to {high:g}; "
            f"{black:g} is read as black and {white:g} as white, {what}. Say what is black and "
            f"white in them: dataset.value_range: {range_said(seen.stored)}."
        )


def _dark_or_flat(dataset: VisionDataset, seen: Look) -> Iterable[str]:
    labels = dataset.index["label"].to_numpy()[seen.at]
    for what, mask in (("nearly black", seen.dark), ("nearly constant", seen.flat & ~seen.dark)):
        share = {c: float(mask[labels == c].mean()) for c in np.unique(labels).tolist()}
        odd = [c for c, of in share.items() if of >= _MOST_OF]
        if not odd:
            continue
        mean = float(seen.mean[np.isin(labels, odd)].mean())
        whole = len(odd) == len(share)
        names = some([f"'{dataset.classes[c]}'" for c in odd], ", ", " and")
        where = "The images" if whole else f"The images of {names}"
        yield (
            f"{where} are {what} (mean {mean:.0f} of 255 in {int(np.isin(labels, odd).sum())} that "
            "were looked at), so that there is little to learn from. Look at them; where their "
            "values use a part of their range only, say it: dataset.value_range."
        )
