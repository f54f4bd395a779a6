"""A subset as a Ray data set: reading and decoding on the workers, a few images at a time."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zoo_search.data.loading import check_bad, check_view, decode_group, quiet_pil
from zoo_search.data.sources.listing import Unreadable

if TYPE_CHECKING:
    import ray.data

    from zoo_search.data.base import Subset

__all__ = ["count_bad", "rows", "rows_of"]

_BATCH = 64  # decoded images that a worker holds at once
Batch = dict[str, npt.NDArray[Any]]


class _Bad:
    """Counts, over all workers, the images that cannot be decoded; a repeated task adds nothing."""

    def __init__(self, total: int, max_bad: float) -> None:
        self._total, self._max_bad = total, max_bad
        self._found: dict[str, str] = {}

    def add(self, name: str, reason: str) -> None:
        self._found[name] = reason
        check_bad(self._found, self._total, self._max_bad)

    def found(self) -> dict[str, str]:
        return self._found


def rows(
    subset: Subset,
    size: tuple[int, int],
    interpolation: str,
    crop_pct: float,
) -> ray.data.Dataset:
    """Return a lazy data set ``id, label, image`` of the subset; see :meth:`Subset.rows`."""
    return rows_of(subset, subset.reader.groups(subset.ids), size, interpolation, crop_pct)


def rows_of(
    subset: Subset,
    groups: Iterable[Sequence[str]],
    size: tuple[int, int],
    interpolation: str,
    crop_pct: float,
) -> ray.data.Dataset:
    """Return a lazy data set ``id, label, image`` of some groups of the subset's ids.

    The plan holds ids and labels only. One task reads one group and hands decoded images on in
    batches of 64.
    """
    check_view(size, interpolation, crop_pct)
    import ray

    from zoo_search import engine

    engine.connect()
    label = dict(zip(subset.ids, subset.labels.tolist(), strict=True))
    tables = [
        pa.table({"id": group, "label": pa.array([label[name] for name in group], pa.int64())})
        for group in groups
    ]
    count_bad(subset)
    work = functools.partial(
        _decode_block,
        reader=ray.put(subset.reader),
        counter=subset.skipped.counter,
        size=size,
        interpolation=interpolation,
        crop_pct=crop_pct,
    )
    return ray.data.from_arrow(tables).map_batches(work, batch_size=None, zero_copy_batch=True)


def count_bad(subset: Subset) -> None:
    """Start the count of the subset's bad images, once; a part of the subset shares it."""
    if subset.skipped.counter is None and not subset.reader.in_memory:
        import ray

        count: Any = ray.remote(num_cpus=0)(_Bad)
        subset.skipped.counter = count.remote(len(subset), subset.max_bad)


def _decode_block(
    block: Batch,
    *,
    reader: Any,
    counter: Any,
    size: tuple[int, int],
    interpolation: str,
    crop_pct: float,
) -> Iterator[Batch]:
    """Decode one block of ids; runs on a worker."""
    import ray

    label = dict(zip(block["id"].tolist(), block["label"].tolist(), strict=True))
    ids: list[str] = []
    images: list[npt.NDArray[np.uint8]] = []
    source = ray.get(reader)
    with quiet_pil():
        for name, image in decode_group(source, list(label), size, interpolation, crop_pct):
            if isinstance(image, Unreadable):
                ray.get(counter.add.remote(name, image.reason))
                continue
            ids.append(name)
            images.append(image)
            if len(ids) == _BATCH:
                yield _batch(ids, images, label)
                ids, images = [], []
    if ids:
        yield _batch(ids, images, label)


def _batch(ids: list[str], images: list[npt.NDArray[np.uint8]], label: dict[str, int]) -> Batch:
    return {
        "id": np.asarray(ids, dtype=object),
        "label": np.asarray([label[name] for name in ids], dtype=np.int64),
        "image": np.stack(images),
    }
