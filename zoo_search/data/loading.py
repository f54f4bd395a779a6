"""Reading and decoding a subset, in this process, and the count of what cannot be decoded."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo_search.data.decode import INTERPOLATIONS, DecodeError, Pixels, decode
from zoo_search.data.sources.listing import Reader, Unreadable
from zoo_search.errors import UserError, nearest

if TYPE_CHECKING:
    from zoo_search.data.base import Subset

__all__ = ["Skipped", "check_bad", "check_view", "decode_group", "load_images", "quiet_pil"]

_log = logging.getLogger(__name__)


class Skipped:
    """The images that could not be decoded so far, id to reason, here and on the workers."""

    def __init__(self) -> None:
        self._here: dict[str, str] = {}
        self.counter: Any = None
        """The Ray actor that counts them on the workers, once there is one."""

    def add(self, bad: dict[str, str]) -> None:
        """Record images that failed in this process."""
        self._here.update(bad)

    def named(self) -> dict[str, str]:
        """Return id to reason, sorted by id; asks the workers' counter if there is one."""
        if self.counter is not None:
            import ray

            self._here.update(ray.get(self.counter.found.remote()))
        return dict(sorted(self._here.items()))

    def __reduce__(self) -> tuple[type[Skipped], tuple[()]]:
        """Travel empty: what was skipped is known where the subset was opened."""
        return Skipped, ()


def check_bad(bad: dict[str, str], total: int, max_bad: float) -> None:
    """Raise :class:`UserError` if more than the share ``max_bad`` of ``total`` images failed."""
    if len(bad) <= max_bad * total:
        return
    named = "; ".join(f"{name} ({reason})" for name, reason in sorted(bad.items())[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    raise UserError(
        f"{len(bad)} of {total} images could not be decoded: {named}{more}. "
        f"dataset.max_bad: {max_bad:g} allows {int(max_bad * total)}. Repair or remove these "
        "files, or raise max_bad."
    )


def check_view(size: tuple[int, int], interpolation: str, crop_pct: float) -> None:
    """Raise :class:`UserError` unless size, interpolation and crop share make sense."""
    if interpolation not in INTERPOLATIONS:
        raise UserError(
            f"There is no interpolation '{interpolation}'.{nearest(interpolation, INTERPOLATIONS)} "
            f"Allowed: {', '.join(INTERPOLATIONS)}."
        )
    if min(size) < 1 or not 0 < crop_pct <= 1:
        raise UserError(
            f"Images cannot be brought to size {size} with crop_pct {crop_pct}: height and width "
            "must be at least 1, crop_pct above 0 and at most 1."
        )


@contextlib.contextmanager
def quiet_pil() -> Iterator[None]:
    """Silence PIL's warnings on odd files; to be used outside threads, as the filter is global."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode_group(
    reader: Reader,
    ids: Sequence[str],
    size: tuple[int, int],
    interpolation: str,
    crop_pct: float,
) -> Iterator[tuple[str, Pixels | Unreadable]]:
    """Read and decode one group lazily: (id, pixels uint8 [3, H, W], or why there are none)."""
    for name, raw in reader.read(ids):
        if isinstance(raw, Unreadable):
            yield name, raw
            continue
        try:
            yield name, decode(raw, size, interpolation, crop_pct)
        except DecodeError as error:
            yield name, Unreadable(str(error))


def load_images(
    subset: Subset, size: tuple[int, int], interpolation: str, crop_pct: float
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Decode a subset on a few threads.

    Returns:
        The good images, uint8 [M, 3, H, W], and a mask [N] of which they are.

    Raises:
        UserError: If more than the share ``max_bad`` cannot be decoded.
    """
    check_view(size, interpolation, crop_pct)
    place = {name: i for i, name in enumerate(subset.ids)}
    pixels = np.zeros((len(subset), 3, *size), dtype=np.uint8)
    bad: dict[str, str] = {}

    def work(group: list[str]) -> None:
        for name, image in decode_group(subset.reader, group, size, interpolation, crop_pct):
            if isinstance(image, Unreadable):
                bad[name] = image.reason
            else:
                pixels[place[name]] = image

    groups = subset.reader.groups(subset.ids)
    with quiet_pil(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(work, groups))
    good = np.asarray([name not in bad for name in subset.ids], dtype=np.bool_)
    if bad:
        subset.skipped.add(bad)
        check_bad(bad, len(subset), subset.max_bad)
        named = ", ".join(sorted(bad)[:5])
        _log.warning("skipped %d of %d images: %s", len(bad), len(subset), named)
    return pixels[good] if bad else pixels, good
