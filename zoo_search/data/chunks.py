"""Reading a chunk of images by position, on a CPU worker; imports no torch, which takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pyarrow as pa

from zoo_search.core.errors import UserError
from zoo_search.data.decode import DecodeError, Pixels, Range, Raw, decode, to_rgb
from zoo_search.data.loading import quiet_pil
from zoo_search.data.selection import Counter, Ints
from zoo_search.data.sources.listing import Reader, Unreadable, limits_of
from zoo_search.data.view import View

if TYPE_CHECKING:
    import ray
    from PIL.Image import Image

Change = Callable[["Image", str], Pixels]
"""What is done to a picture, with the name of the random numbers: uint8 [3, H, W]."""

Limits = tuple[int, Range | None]

_STAND_INS = 64
"""Images after a bad one that are tried in its place."""


@dataclass(frozen=True, eq=False)
class Stored:
    """What the tasks need to read images by position; one copy on each node.

    Attributes:
        groups: Positions that are dear to read apart; None: any image is read as easily.
    """

    ids: pa.Array
    labels: Ints
    reader: Reader
    groups: list[Ints] | None = None


_latest: tuple[str, Stored] | None = None


def fetch(ref: ray.ObjectRef[Stored]) -> Stored:
    """Return what a reference stands for; the last one is kept in the process."""
    global _latest
    import ray

    if _latest is None or _latest[0] != ref.hex():
        _latest = (ref.hex(), ray.get(ref))
    return _latest[1]


class Positions(TypedDict):
    """A chunk that is to be read: int64 [N]."""

    position: Ints


class Pixelled(TypedDict):
    """A chunk that was read: uint8 [N, 3, H, W] and int64 [N]; -1 labels what is no image."""

    image: Pixels
    label: Ints


def read_chunk(
    rows: Positions,
    *,
    stored: list[ray.ObjectRef[Stored]],
    counter: Counter | None,
    view: View,
    change: Change | None,
    draw: str | None,
) -> Pixelled:
    """Read and decode a chunk; runs on a worker.

    An image that cannot be decoded is counted. In training (``draw`` is given) the next one in the
    data set that can takes its place, with its label, so that every step has its number of images
    whoever reads it; else it gets the label -1.

    Raises:
        UserError: If too many images cannot be decoded.
    """
    import ray

    # In a list: a bare reference among the arguments would be fetched by Ray Data for each task.
    here = fetch(stored[0])

    def pixels_of(positions: Ints) -> dict[int, Pixels]:
        names: list[str] = here.ids.take(pa.array(positions)).to_pylist()
        at, found = dict(zip(names, positions.tolist(), strict=True)), {}
        for name, raw in here.reader.read(names):
            pixels = _pixels(raw, view, limits_of(here.reader), change, f"{draw} {name}")
            if not isinstance(pixels, Unreadable):
                found[at[name]] = pixels
            elif counter is not None:  # waited for: its refusal ends the run of the data set
                ray.get(counter.add.remote(name, pixels.reason))
        return found

    with quiet_pil():
        found = pixels_of(np.unique(rows["position"]))
        taken = [int(position) for position in rows["position"]]
        for place, bad in enumerate(taken):
            if bad in found or draw is None:
                continue
            for step in range(1, _STAND_INS + 1):
                other = (bad + step) % len(here.ids)
                if other in found or (more := pixels_of(np.asarray([other]))):
                    found |= {} if other in found else more
                    taken[place] = other
                    break
            else:
                raise UserError(
                    f"{_STAND_INS} images that follow each other in the data set, from "
                    f"{here.ids[bad]} on, cannot be decoded. Repair them or take them out."
                )
    none = np.zeros((3, *view.size), dtype=np.uint8)
    return {
        "image": np.stack([found.get(position, none) for position in taken]),
        "label": np.asarray(
            [here.labels[position] if position in found else -1 for position in taken], np.int64
        ),
    }


def _pixels(
    raw: Raw | Unreadable, view: View, limits: Limits, change: Change | None, draw: str
) -> Pixels | Unreadable:
    if isinstance(raw, Unreadable):
        return raw
    try:
        if change is None:
            return decode(raw, view, *limits)
        return change(to_rgb(raw, *limits), draw)
    except DecodeError as error:
        return Unreadable(str(error))
