"""A look at some images of a data set: are they black, all of one value, or nearly the same?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from zoo_search.core.identity import ranks
from zoo_search.data import splits
from zoo_search.data.base import VisionDataset
from zoo_search.data.decode import DecodeError, Pixels, Raw, kind_of, stored_values, to_rgb
from zoo_search.data.loading import quiet_pil
from zoo_search.data.sources.listing import Unreadable, limits_of
from zoo_search.data.splits import SPLITS

MOST = 512
"""Images that are looked at."""
MOST_BYTES = 64 * 10**6
"""Of their files, where their sizes are known."""
SIDE = 32
"""Of the small versions that are looked at, in pixels."""

_DARK = 26  # of 255: no pixel of a nearly black image is brighter, but for one in a hundred
_FLAT = 3  # of 255: so little is between the dark and the bright pixels of a nearly constant one
_NEAR = 4.0  # of 255: so far are the pixels of two versions of one picture from each other, at most
_TEXTURE = 16  # of 255: the least deviation of pixels in which likeness tells anything
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What was seen of N images.

    Attributes:
        at: Positions in the index, ``int64`` [N].
        dark, flat: Which are nearly black, and nearly constant, ``bool`` [N].
        mean: Of the grey values, 0 to 255, [N].
        stored: Least and largest stored value of grey images of more than 8 bits; None: there are
            none.
        near: Position of a held-out image, to that of one in an earlier split that looks the same;
            among the images looked at.
        sides: Width and height as they are stored, upright, ``int64`` [N, 2].
        kinds: How many are of each kind (:func:`zoo_search.data.decode.kind_of`).
        bad: Images that could not be decoded, and why; they are none of the N.
    """

    at: npt.NDArray[np.int64]
    dark: npt.NDArray[np.bool_]
    flat: npt.NDArray[np.bool_]
    mean: Floats
    stored: tuple[float, float] | None
    near: dict[int, int]
    sides: npt.NDArray[np.int64]
    kinds: dict[str, int]
    bad: dict[str, str]


def look(dataset: VisionDataset) -> Look:
    """Decode a choice of the images, of all classes alike, and look at small grey versions.

    Few enough images are all looked at, and then the held-out ones are compared with the others:
    a copy that was scaled or encoded anew is not the same byte by byte. In large data sets such
    copies are not looked for, as every image would have to be decoded for it.
    """
    chosen = _chosen(dataset)
    ids = dataset.index["id"].take(chosen).to_pylist()
    small: dict[str, Pixels] = {}
    stored: list[tuple[float, float]] = []
    sides: dict[str, tuple[int, int]] = {}
    kinds: list[str] = []
    bad: dict[str, str] = {}
    limits = limits_of(dataset.reader)

    def work(group: list[str]) -> None:
        for name, raw in dataset.reader.read(group):
            if isinstance(raw, Unreadable):
                bad[name] = raw.reason
                continue
            try:
                image = to_rgb(raw, *limits).convert("L")
            except DecodeError as error:
                bad[name] = str(error)
                continue
            sides[name] = image.size
            kinds.append(kind_of(raw, limits[0]))
            small[name] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
            stored.extend(_stored(raw, limits[0]))

    with quiet_pil(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(work, dataset.reader.groups(ids)))
    good = [i for i, name in enumerate(ids) if name in small]
    at = chosen[good]
    grey = np.stack([small[ids[i]] for i in good]) if good else np.zeros((0, SIDE, SIDE), np.uint8)
    flat = grey.reshape(len(grey), SIDE * SIDE).astype(np.float64)
    low, high = np.percentile(flat, (1, 99), axis=1) if len(flat) else (np.zeros(0), np.zeros(0))
    split = np.asarray(dataset.index["split"].to_pylist(), dtype=object)[at]
    return Look(
        at=at,
        dark=high <= _DARK,
        flat=high - low <= _FLAT,
        mean=flat.mean(axis=1),
        stored=(min(a for a, _ in stored), max(b for _, b in stored)) if stored else None,
        near=_near(flat, split, at) if len(chosen) == len(dataset) else {},
        sides=np.asarray([sides[ids[i]] for i in good], np.int64).reshape(-1, 2),
        kinds=dict(sorted(Counter(kinds).items())),
        bad=dict(sorted(bad.items())),
    )


def _chosen(dataset: VisionDataset) -> npt.NDArray[np.int64]:
    """Return the positions of the images to look at, of all classes alike, by no more than ids."""
    labels = dataset.index["label"].to_numpy().astype(np.int64)
    rank = ranks(dataset.index["id"].to_pylist(), 0, "look")
    chosen = splits.choose(labels, rank, min(MOST, len(labels)))
    if dataset.sizes is not None:
        chosen = chosen[np.cumsum(dataset.sizes[chosen]) <= MOST_BYTES]
    return chosen


def _stored(raw: Raw, max_pixels: int) -> Sequence[tuple[float, float]]:
    found = stored_values(raw, max_pixels)
    return [] if found is None else [found]


def _near(
    flat: Floats, split: npt.NDArray[np.object_], at: npt.NDArray[np.int64]
) -> dict[int, int]:
    """Return held-out images that look like one of an earlier split, with the most alike of these.

    Both have some texture, and their small versions differ by little, pixel by pixel.
    """
    told = np.flatnonzero(flat.std(axis=1) >= _TEXTURE)
    order = np.asarray([SPLITS.index(part) for part in split[told]], np.int64)
    found: dict[int, int] = {}
    for place, i in enumerate(told):
        earlier = told[order < order[place]]
        if len(earlier):
            apart = np.sqrt(np.square(flat[earlier] - flat[i]).mean(axis=1))
            best = int(apart.argmin())
            if apart[best] <= _NEAR:
                found[int(at[i])] = int(at[earlier[best]])
    return found


def range_said(stored: tuple[float, float]) -> str:
    """Return the range of the whole bits that hold some stored values, as a run file has it."""
    low, high = stored
    white = 1 if high <= 1 else 2 ** int(np.ceil(np.log2(high + 1))) - 1
    return f"[{min(low, 0):g}, {white:g}]"
