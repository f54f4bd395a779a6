"""What every source of images gives: a listing and a reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from zoo_search.core.errors import UserError
from zoo_search.data.decode import MAX_PIXELS, Range, Raw

Label = int | str
"""What a source calls a class by; all labels of a source are of one of the two types."""


@dataclass(frozen=True)
class Unreadable:
    """Stands for the bytes of a file that is gone or may not be read."""

    reason: str


class Reader(Protocol):
    """Reads stored images by id. Picklable; the workers share one copy in the object store.

    A subclass needs :meth:`read` alone.
    """

    in_memory: bool = False
    """The images are decoded arrays, so that none can turn out to be bad."""
    max_pixels: int = MAX_PIXELS
    """An image with more is bad; ``dataset.max_pixels`` sets it."""
    value_range: Range | None = None
    """What is black and white in grey of more than 8 bits; ``dataset.value_range`` sets it."""

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield (id, raw) for each id once, lazily; the order is free."""

    def groups(self, ids: Sequence[str]) -> list[list[str]]:
        """Cut the ids into lists that are cheap to read together; here any are, up to 256."""
        return chunks(ids)


def limits_of(reader: Reader) -> tuple[int, Range | None]:
    """Return the ``max_pixels`` and ``value_range`` of a reader.

    Those of one that is written without them are the defaults.
    """
    return getattr(reader, "max_pixels", MAX_PIXELS), getattr(reader, "value_range", None)


@dataclass(frozen=True)
class Listing:
    """Every image of a source.

    ``splits`` holds ``train``, ``validation`` or ``test`` for each image, or is None where the
    source has no held-out images of its own. Where there is no ``test``, ``validation`` is taken
    for it. ``content`` is a hash of what the images hold. ``sizes``, where they are known, are the
    bytes of each stored image, ``int64`` [N].
    """

    classes: tuple[str, ...]
    ids: list[str]
    labels: list[int]
    splits: Sequence[str] | None
    content: str
    reader: Reader
    sizes: npt.NDArray[np.int64] | None = None


def chunks(ids: Sequence[str]) -> list[list[str]]:
    """Cut a list into pieces of at most 256; about sixteen where there are enough images."""
    step = min(256, max(32, -(-len(ids) // 16)))
    return [list(ids[i : i + step]) for i in range(0, len(ids), step)]


def check_kinds(labels: Sequence[object], place: str) -> None:
    """Raise :class:`UserError` unless all labels found in a place are integers, or all strings."""
    kinds = {type(value) for value in labels}
    if kinds not in ({int}, {str}):
        shown = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise UserError(
            f"dataset.path: the labels in {place} must be all integers or all strings, "
            f"without gaps; found: {shown}."
        )


def numbered(labels: Sequence[Label]) -> tuple[tuple[str, ...], list[int]]:
    """Return the names of the classes, which are the sorted labels, and each label's position."""
    order = sorted(cast("set[int]", set(labels)))  # all integers or all strings: in order
    position: dict[Label, int] = {label: i for i, label in enumerate(order)}
    return tuple(map(str, order)), [position[label] for label in labels]
