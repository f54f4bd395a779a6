"""A selection as a Ray data set: reading and decoding on the workers, a few images at a time."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zoo_search import cluster
from zoo_search.data.decode import Pixels
from zoo_search.data.loading import decode_group, quiet_pil
from zoo_search.data.selection import BadImages, Counter, Ints, Selection
from zoo_search.data.sources.listing import Reader, Unreadable
from zoo_search.data.view import View

if TYPE_CHECKING:
    import ray
    import ray.data

_BATCH = 64  # decoded images that a worker holds at once


class Ids(TypedDict):
    """A block of samples that are still to be read: string [N] and int64 [N]."""

    id: npt.NDArray[np.object_]
    label: Ints


class Rows(Ids):
    """A block of decoded samples; images uint8 [N, 3, H, W]."""

    image: Pixels


def rows_of(
    selection: Selection, view: View, groups: Iterable[Sequence[str]] | None = None
) -> ray.data.Dataset:
    """Return a lazy data set ``id, label, image`` of a selection, or of some of its ids.

    The plan holds ids and labels only. One task reads one group (default: all ids, as the reader
    groups them) and hands decoded images on in batches of 64.
    """
    import ray

    cluster.connect()
    if groups is None:
        groups = selection.reader.groups(selection.ids)
    label = dict(zip(selection.ids, selection.labels.tolist(), strict=True))
    tables = [
        pa.table({"id": group, "label": pa.array([label[name] for name in group], pa.int64())})
        for group in groups
    ]
    count_bad(selection)
    cluster.ship(type(selection.reader))
    work = functools.partial(
        _decode_block,
        reader=ray.put(selection.reader),
        counter=selection.skipped.counter,
        view=view,
    )
    return ray.data.from_arrow(tables).map_batches(work, batch_size=None, zero_copy_batch=True)


def count_bad(selection: Selection) -> None:
    """Start the count of a selection's bad images, once; a part of the selection shares it."""
    if selection.skipped.counter is None and not selection.reader.in_memory:
        import ray

        count = ray.remote(num_cpus=0)(BadImages)
        selection.skipped.counter = count.remote(len(selection), selection.max_bad)


def _decode_block(
    block: Ids, *, reader: ray.ObjectRef[Reader], counter: Counter | None, view: View
) -> Iterator[Rows]:
    """Decode one block of ids; runs on a worker."""
    import ray

    label = dict(zip(block["id"].tolist(), block["label"].tolist(), strict=True))
    good: list[tuple[str, Pixels]] = []
    source = ray.get(reader)
    with quiet_pil():
        for name, image in decode_group(source, list(label), view):
            if isinstance(image, Unreadable):
                # Waiting for the answer brings the counter's refusal, when there are too many bad
                # images, into this task, where it ends the run of the data set.
                assert counter is not None, "a reader that decodes counts its bad images"
                ray.get(counter.add.remote(name, image.reason))
                continue
            good.append((name, image))
            if len(good) == _BATCH:
                yield _rows(good, label)
                good = []
    if good:
        yield _rows(good, label)


def _rows(good: list[tuple[str, Pixels]], label: dict[str, int]) -> Rows:
    return {
        "id": np.asarray([name for name, _ in good], dtype=object),
        "label": np.asarray([label[name] for name, _ in good], dtype=np.int64),
        "image": np.stack([image for _, image in good]),
    }
