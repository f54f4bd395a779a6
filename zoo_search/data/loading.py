"""Reading and decoding a selection of images in this process."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from zoo_search.data.decode import DecodeError, Pixels, decode
from zoo_search.data.selection import Selection, check_bad
from zoo_search.data.sources.listing import Reader, Unreadable, limits_of
from zoo_search.data.view import View

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet_pil() -> Iterator[None]:
    """Silence PIL's warnings on odd files; to be used outside threads, as the filter is global."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode_group(
    reader: Reader, ids: Sequence[str], view: View
) -> Iterator[tuple[str, Pixels | Unreadable]]:
    """Read and decode one group lazily: (id, pixels uint8 [3, H, W], or why there are none)."""
    for name, raw in reader.read(ids):
        if isinstance(raw, Unreadable):
            yield name, raw
            continue
        try:
            yield name, decode(raw, view, *limits_of(reader))
        except DecodeError as error:
            yield name, Unreadable(str(error))


def load_images(selection: Selection, view: View) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Decode a selection on a few threads.

    Returns:
        The good images, uint8 [M, 3, H, W], and a mask [N] of which they are.

    Raises:
        UserError: If more than the share ``max_bad`` cannot be decoded.
    """
    place = {name: i for i, name in enumerate(selection.ids)}
    pixels = np.zeros((len(selection), 3, *view.size), dtype=np.uint8)
    bad: dict[str, str] = {}

    def work(group: list[str]) -> None:
        # Threads write without a lock: every id is in one group, so that no two of them write to
        # the same row, and storing one key in a dictionary is a single step under the GIL.
        for name, image in decode_group(selection.reader, group, view):
            if isinstance(image, Unreadable):
                bad[name] = image.reason
            else:
                pixels[place[name]] = image

    groups = selection.reader.groups(selection.ids)
    with quiet_pil(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(work, groups))
    good = np.asarray([name not in bad for name in selection.ids], dtype=np.bool_)
    if bad:
        selection.skipped.add(bad)
        check_bad(bad, len(selection), selection.max_bad)
        shown = ", ".join(sorted(bad)[:5])
        _log.warning("skipped %d of %d images: %s", len(bad), len(selection), shown)
    return pixels[good] if bad else pixels, good
