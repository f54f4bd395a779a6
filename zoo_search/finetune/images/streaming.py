"""Images of a training, read, decoded and augmented by Ray Data on CPU workers while it goes on.

Each training worker streams its own share of each step, by a Ray data set of its own. What that
holds follows from the epoch, the step to go on from, and the number of workers, so that a training
that goes on, or goes on with fewer workers, reads what it would have read. (The shards that Ray
Train hands out are fixed when its workers start, and which images they hold depends on who is
faster.)
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zoo_search import cluster
from zoo_search.core.errors import UserError
from zoo_search.data.chunks import Change, Stored, fetch, read_chunk
from zoo_search.data.on_ray import count_bad
from zoo_search.data.selection import Counter, Selection
from zoo_search.data.sources.listing import Reader
from zoo_search.data.view import View
from zoo_search.training.images import Batch
from zoo_search.training.order import Ints, shuffled

if TYPE_CHECKING:
    import ray

CHUNK = 64
"""Images that a task of Ray Data decodes."""
_AHEAD = 2  # chunks that are brought to the worker before it asks for them
_SPAN = 1024  # images that are read in the order of their groups, and then brought into theirs


@dataclass(frozen=True, eq=False)
class Streamed:
    """A selection as an :class:`zoo_search.training.images.ImageSource`.

    Attributes:
        change: What is done to each picture of a training; None: nothing.
        grouped: Whether some positions are dear to read apart.
        decoders: Tasks of Ray Data at once.
        task_cpus: CPUs of Ray's account that each of them holds.
        ahead_bytes: Most decoded bytes that wait for this worker in the object store.
    """

    stored: ray.ObjectRef[Stored]
    count: int
    view: View
    counter: Counter | None
    grouped: bool = False
    change: Change | None = None
    decoders: float = 1.0
    task_cpus: float = 1.0
    ahead_bytes: int = 256 * 2**20

    def __len__(self) -> int:
        return self.count

    def order(self, draw: np.random.Generator) -> Ints:
        """Return a permutation; groups stay together within windows."""
        return shuffled(self.count, draw, fetch(self.stored).groups if self.grouped else None)

    def read(self, wanted: Sequence[Ints], draw: str | None = None) -> Iterator[Batch]:
        """Yield images and labels of each list; they are decoded some chunks ahead.

        Raises:
            UserError: If too many images cannot be decoded, or the storage fails.
        """
        spans = _spans(wanted, _SPAN if self.grouped else 0)
        batches = self._decoded([positions for positions, _ in spans], draw)
        if not self.grouped:
            yield from _cut(batches, [len(part) for part in wanted])
            return
        pieces = _cut(batches, [len(positions) for positions, _ in spans])
        for (positions, lists), (images, labels) in zip(spans, pieces, strict=True):
            for part in lists:
                at = torch.from_numpy(np.searchsorted(positions, part))
                yield images[at], labels[at]

    def _decoded(self, spans: Sequence[Ints], draw: str | None) -> Iterator[dict[str, Tensor]]:
        """Yield chunks of decoded images in the order of the spans."""
        import ray.data
        from ray.data import ExecutionResources

        positions = np.concatenate([*spans, np.empty(0, dtype=np.int64)])
        if not len(positions):
            return
        chunks = np.split(positions, range(CHUNK, len(positions), CHUNK))
        work = functools.partial(
            read_chunk,
            stored=[self.stored],
            counter=self.counter,
            view=self.view,
            change=None if draw is None else self.change,
            draw=draw,
        )
        tables = [pa.table({"position": chunk}) for chunk in chunks]
        data: ray.data.Dataset = ray.data.from_arrow(tables)
        data.context.raise_original_map_exception = True
        options = data.context.execution_options
        options.preserve_order = True
        options.resource_limits = ExecutionResources(
            cpu=self.decoders * self.task_cpus, object_store_memory=self.ahead_bytes
        )
        data = data.map_batches(
            work, batch_size=None, zero_copy_batch=True, num_cpus=self.task_cpus
        )
        batches = data.iterator().iter_torch_batches(
            batch_size=None, prefetch_batches=_AHEAD, device="cpu"
        )
        try:
            yield from batches
        except ray.exceptions.RayTaskError as error:
            if told := _told(error):
                raise told from None
            raise


def streamed(selection: Selection, view: View, change: Change | None = None) -> Streamed:
    """Return a selection as a source of images; decodes nothing."""
    import ray

    count_bad(selection)
    cluster.ship(type(selection.reader))
    ids = pa.array(selection.ids, pa.large_string())
    groups = groups_of(selection)
    stored = ray.put(Stored(ids, selection.labels, selection.reader, groups))
    counter = selection.skipped.counter
    return Streamed(stored, len(selection), view, counter, groups is not None, change)


def groups_of(selection: Selection) -> list[Ints] | None:
    """Return positions by what is read together, or None where any image is read as easily."""
    if type(selection.reader).groups is Reader.groups:
        return None
    place = {name: i for i, name in enumerate(selection.ids)}
    return [
        np.asarray([place[name] for name in group], dtype=np.int64)
        for group in selection.reader.groups(selection.ids)
    ]


def _told(error: BaseException | None) -> UserError | None:
    """Return what a task said that a user can mend, from inside Ray's own exceptions."""
    while error is not None:
        if isinstance(error, UserError):
            return UserError(str(error.args[0]) if error.args else str(error))
        error = getattr(error, "cause", None) or error.__cause__
    return None


def _spans(wanted: Sequence[Ints], size: int) -> list[tuple[Ints, list[Ints]]]:
    """Gather lists into spans of ``size`` images, with what is read for each: sorted, once each.

    With size 0, all is one span that is read in the order of the lists.
    """
    if not size:
        return [(np.concatenate([*wanted, np.empty(0, dtype=np.int64)]), list(wanted))]
    spans: list[list[Ints]] = [[]]
    for part in wanted:
        if sum(map(len, spans[-1])) >= size:
            spans.append([])
        spans[-1].append(part)
    return [(np.unique(np.concatenate(span)), span) for span in spans if span]


def _cut(batches: Iterator[dict[str, Tensor]], sizes: Sequence[int]) -> Iterator[Batch]:
    """Cut chunks as they come into pieces of given sizes."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    held = 0
    for size in sizes:
        while held < size:
            chunk = next(batches)
            images.append(chunk["image"])
            labels.append(chunk["label"])
            held += len(chunk["label"])
        x, y = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (images, labels))
        yield x[:size], y[:size]
        images, labels, held = [x[size:]], [y[size:]], held - size
