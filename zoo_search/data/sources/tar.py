"""The samples of one tar shard, by its headers: what is skipped over is never read."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from zoo_search.core.errors import UserError, some
from zoo_search.core.json_text import read_json
from zoo_search.data.sources.folder import EXTENSIONS
from zoo_search.data.sources.listing import Label

LABEL_KEYS = ("label", "cls", "class")
"""Where a ``.json`` member has the label, the first of these that it holds."""

_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)  # the key ends at the first dot
_INTEGER = re.compile(r"[+-]?\d+")
_BLOCK = tarfile.BLOCKSIZE
ALLOWED = (
    "A shard is an uncompressed .tar whose samples are members that share the part of their name "
    "before the first dot, such as 0001.jpg and 0001.cls"
)


@dataclass(frozen=True)
class Sample:
    """One image of a shard: its bytes are ``[offset, offset + size)`` of the file."""

    key: str
    offset: int
    size: int
    label: Label


@dataclass
class _Members:
    """The members of the sample that is being read."""

    key: str
    endings: list[str] = field(default_factory=list)
    image: tuple[bool, int, int] | None = None
    """Whether its ending is an image's and nothing more (not ``seg.png``); offset and size."""
    labels: dict[str, bytes] = field(default_factory=dict)


def samples(
    stream: IO[bytes], where: str, seen: Callable[[int], None] = lambda offset: None
) -> Iterator[Sample]:
    """Yield the samples of a shard in their order.

    The image is the first member whose ending is an image's, in preference to one where it is only
    the last part of the ending. Directories, links, hidden members and those named ``__…__`` are
    passed over.

    Args:
        stream: The shard, open for reading, seekable.
        where: What the shard is called in messages.
        seen: Called with the offset of each header.

    Raises:
        UserError: If the shard is damaged or cut short, or a sample has no image or no label.
    """
    now: _Members | None = None
    for member in _members(stream, where, seen):
        named = _NAME.fullmatch(member.name.removeprefix("./"))
        if named is None or _is_meta(named[1]) or not member.isreg() or member.issparse():
            continue
        key, ending = named[1], named[2].lower()
        if now is None or now.key != key:
            if now is not None:
                yield _sample(now, where)
            now = _Members(key)
        if ending in now.endings:
            raise UserError(
                f"dataset.path: {where} has two members '{key}.{ending}' in one sample. Every "
                "sample needs a key of its own. Write the shard again with other names."
            )
        now.endings.append(ending)
        if f".{ending.rpartition('.')[2]}" in EXTENSIONS:
            plain = "." not in ending
            if now.image is None or (plain and not now.image[0]):
                now.image = plain, member.offset_data, member.size
        elif ending == "cls" or (ending == "json" and "cls" not in now.labels):
            stream.seek(member.offset_data)
            now.labels[ending] = stream.read(member.size)
    if now is not None:
        yield _sample(now, where)


def _members(
    stream: IO[bytes], where: str, seen: Callable[[int], None]
) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar; ``tarfile`` takes damage after the first for the end."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
                seen(member.offset)
                yield member
            end = tar.offset
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise _damaged(where, stream.tell(), str(error)) from None
    stream.seek(end)
    block = stream.read(_BLOCK)
    if block != bytes(_BLOCK):
        reason = "no header there" if len(block) == _BLOCK else "it ends without an empty block"
        raise _damaged(where, end, reason)


def _damaged(where: str, offset: int, reason: str) -> UserError:
    return UserError(
        f"dataset.path: {where} is damaged, cut short, or no plain tar (about byte {offset}: "
        f"{reason}). {ALLOWED}. Copy or write this shard again, or remove it."
    )


def _is_meta(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith("__") and name.endswith("__")


def _sample(members: _Members, where: str) -> Sample:
    if members.image is None:
        raise UserError(
            f"dataset.path: the sample '{members.key}' in {where} has no image; its members end in "
            f"{some(members.endings, ', ', ' and')}. {ALLOWED}; allowed for the image: "
            f"{', '.join(EXTENSIONS)}. Write the shard again with an image in every sample."
        )
    label = _label(members.labels)
    if label is None:
        raise UserError(
            f"dataset.path: the sample '{members.key}' in {where} has no label; its members end in "
            f"{some(members.endings, ', ', ' and')}. Allowed is a member .cls that holds an "
            "integer or the name of a class, or a .json with one of them under "
            f"{', '.join(LABEL_KEYS)}. Write the shard again with a label in every sample."
        )
    _, offset, size = members.image
    return Sample(members.key, offset, size, label)


def _label(found: dict[str, bytes]) -> Label | None:
    """Return the label of ``.cls``, else of ``.json``; None if there is none."""
    try:
        if "cls" in found:
            text = found["cls"].decode().strip()
            return int(text) if _INTEGER.fullmatch(text) else text or None
        value = read_json(found["json"]) if "json" in found else None
    except ValueError:  # no UTF-8, or no JSON
        return None
    if not isinstance(value, dict):
        return None
    label = next((value[key] for key in LABEL_KEYS if key in value), None)
    allowed = isinstance(label, int | str) and not isinstance(label, bool)
    return label if allowed and label != "" else None
