"""Pictures that another library opens, under the limits of our own."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from PIL import Image

from zoo_search.data.decode import DecodeError, check_pixels
from zoo_search.data.decode import formats as our_formats

_limit: ContextVar[int | None] = ContextVar("max_pixels", default=None)
_opens = Image.open


@contextlib.contextmanager
def guarded_pil(max_pixels: int) -> Iterator[None]:
    """Let ``PIL.Image.open`` read our formats up to so many pixels, in this thread, in the block.

    A larger one raises :class:`~zoo_search.data.decode.DecodeError`. Outside the block, and in
    other threads, it is PIL's own.
    """
    if Image.open is not _guarded:
        Image.open = _guarded  # type: ignore[assignment]
    before = _limit.set(max_pixels)
    try:
        yield
    finally:
        _limit.reset(before)


@functools.wraps(_opens)
def _guarded(
    fp: str | IO[bytes], mode: Any = "r", formats: list[str] | tuple[str, ...] | None = None
) -> Image.Image:
    limit = _limit.get()
    if limit is None:
        return _opens(fp, mode, formats)
    if isinstance(fp, str | os.PathLike) and Path(fp).exists() and not Path(fp).is_file():
        raise DecodeError("no regular file but a pipe, a socket or a device")  # an index names it
    ours = our_formats()
    image = _opens(fp, mode, ours if formats is None else [f for f in formats if f in ours])
    check_pixels(image, limit)
    return image
