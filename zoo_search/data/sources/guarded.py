"""Pictures that another library opens, under the limits of our own."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from PIL import Image

from zoo_search.data.decode import DecodeError, check_pixels, check_scans
from zoo_search.data.decode import formats as our_formats

_limit: ContextVar[int | None] = ContextVar("max_pixels", default=None)
_folders: ContextVar[Sequence[Path]] = ContextVar("folders", default=())
_opens = Image.open


@contextlib.contextmanager
def guarded_pil(max_pixels: int, folders: Sequence[Path] = ()) -> Iterator[None]:
    """Let ``PIL.Image.open`` read our formats up to so many pixels, in this thread, in the block.

    A larger one raises :class:`~zoo_search.data.decode.DecodeError`, and a file that lies, links
    followed, in none of the ``folders``, if there are any. Outside the block, and in other threads,
    it is PIL's own.
    """
    if Image.open is not _guarded:
        Image.open = _guarded  # type: ignore[assignment]
    before, around = _limit.set(max_pixels), _folders.set(folders)
    try:
        yield
    finally:
        _folders.reset(around)
        _limit.reset(before)


def check_inside(named: str | os.PathLike[str], folders: Sequence[Path]) -> None:
    """Refuse a file of a data set's index that lies elsewhere, links followed.

    Raises:
        DecodeError: If it lies in none of the folders, of which there are some.
    """
    place = Path(named).resolve()
    if folders and not any(place.is_relative_to(folder.resolve()) for folder in folders):
        raise DecodeError(f"it is said to be at {named}, which is not in the data set's folder")


@functools.wraps(_opens)
def _guarded(
    fp: str | IO[bytes], mode: Any = "r", formats: list[str] | tuple[str, ...] | None = None
) -> Image.Image:
    limit = _limit.get()
    if limit is None:
        return _opens(fp, mode, formats)
    named = fp if isinstance(fp, str | os.PathLike) else getattr(fp, "name", None)
    if isinstance(named, str | os.PathLike):
        check_inside(named, _folders.get())
    if isinstance(fp, str | os.PathLike) and Path(fp).exists() and not Path(fp).is_file():
        raise DecodeError("no regular file but a pipe, a socket or a device")  # an index names it
    ours = our_formats()
    image = _opens(fp, mode, ours if formats is None else [f for f in formats if f in ours])
    check_pixels(image, limit)
    if isinstance(named, str | os.PathLike):
        check_scans(image, Path(named).read_bytes())
    return image
