"""What every source of images gives: a listing and a reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from zoo_search.data.decode import Raw

__all__ = ["CHUNK", "Listing", "Reader", "Unreadable", "chunks"]

CHUNK = 256
"""Images that one task reads, at most; they are decoded a few at a time."""


@dataclass(frozen=True)
class Unreadable:
    """Stands for the bytes of a file that is gone or may not be read."""

    reason: str


class Reader(Protocol):
    """Reads stored images by id. Picklable; the workers share one copy in the object store."""

    in_memory: bool
    """The images are decoded arrays, so that none can turn out to be bad."""

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield (id, raw) for each id once, lazily; the order is free."""
        ...

    def groups(self, ids: Sequence[str]) -> list[list[str]]:
        """Cut the ids into lists that are cheap to read together."""
        ...


@dataclass(frozen=True)
class Listing:
    """Every image of a source.

    ``splits`` holds ``train`` or ``test`` for each image, or is None where the source has no
    held-out images of its own. ``content`` is a hash of what the images hold.
    """

    classes: tuple[str, ...]
    ids: list[str]
    labels: list[int]
    splits: list[str] | None
    content: str
    reader: Reader


def chunks(ids: Sequence[str], size: int = CHUNK) -> list[list[str]]:
    """Cut a list into pieces of at most ``size``; about sixteen where there are enough images."""
    step = max(1, min(size, max(32, -(-len(ids) // 16))))
    return [list(ids[i : i + step]) for i in range(0, len(ids), step)]
