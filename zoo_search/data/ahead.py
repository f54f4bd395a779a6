"""Every image of a source in a seeded order, read and encoded ahead on a few threads."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from zoo_search.core.identity import ranks
from zoo_search.data.decode import DecodeError
from zoo_search.data.encode import encoded
from zoo_search.data.sources.listing import Reader, Unreadable, limits_of

_TOGETHER = 32  # images that a thread reads at once where any are cheap to read
_MIXED = 1024  # images that are mixed where only those of a group are
_HELD = 128 * 10**6  # bytes of images that are read and not taken yet, from which reading waits
_THREADS = min(4, os.cpu_count() or 1)

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """An image as the bytes of a file; of one that is bad the reason in place of the bytes."""

    id: str
    data: bytes = b""
    ending: str = ""
    bad: str | None = None


def shuffled(reader: Reader, ids: Sequence[str], seed: int) -> list[list[list[str]]]:
    """Return the ids in a seeded order, as windows of groups that are cheap to read together.

    The order of a window is that of :func:`ranked`. Where any images are cheap to read, all are
    mixed. Where those of a group are, such as a Parquet file's row group, the groups are mixed,
    and their images with those of their neighbours, about a thousand at a time.
    """
    mixed = ranked(ids, seed)
    groups = reader.groups(mixed)
    if [name for group in groups for name in group] == mixed:
        return [[mixed[i : i + _TOGETHER]] for i in range(0, len(mixed), _TOGETHER)]
    groups.sort(key=lambda group: int(ranks(group, seed, "pack").min()))
    windows: list[list[list[str]]] = []
    count = _MIXED
    for group in groups:
        if count >= _MIXED:
            windows.append([])
            count = 0
        windows[-1].append(group)
        count += len(group)
    return windows


def ranked(ids: Sequence[str], seed: int) -> list[str]:
    """Return ids in an order that depends on the seed and on them alone."""
    return [ids[i] for i in np.argsort(ranks(ids, seed, "pack"), kind="stable")]


def read_shuffled(
    reader: Reader, ids: Sequence[str], seed: int, side: int | None, skip: int = 0
) -> Generator[Encoded]:
    """Yield every image of :func:`shuffled` but the first ``skip``; memory is flat.

    Raises:
        UserError: As the reader does.
    """
    windows: list[list[list[str]]] = []
    for window in shuffled(reader, ids, seed):
        names = ranked([name for group in window for name in group], seed)
        gone = set(names[:skip])
        skip -= len(gone)
        left = [[name for name in group if name not in gone] for group in window]
        windows.append([group for group in left if group])
    work = functools.partial(_encode, reader, side)
    found = ahead(work, [group for window in windows for group in window], _THREADS, _held)
    for window in windows:
        images = {image.id: image for _ in window for image in next(found)}
        for name in ranked([*images], seed):
            yield images.pop(name)


def _encode(reader: Reader, side: int | None, ids: Sequence[str]) -> list[Encoded]:
    done: list[Encoded] = []
    for name, raw in reader.read(ids):
        if isinstance(raw, Unreadable):
            done.append(Encoded(name, bad=raw.reason))
            continue
        try:
            done.append(Encoded(name, *encoded(raw, side, *limits_of(reader))))
        except DecodeError as error:
            done.append(Encoded(name, bad=str(error)))
    return done


def ahead(
    work: Callable[[list[str]], list[T]],
    groups: Iterable[list[str]],
    threads: int,
    held: Callable[[Iterable[list[T]]], int] = lambda done: 0,
) -> Iterator[list[T]]:
    """Yield what ``work`` gives for each group, in order, some groups ahead on threads.

    ``held`` says how many bytes results take that nobody has taken yet; from some on, reading waits
    until they are taken.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    waiting: deque[Future[list[T]]] = deque()
    rest = deque(groups)

    def done() -> Iterator[list[T]]:
        return (f.result() for f in waiting if f.done() and f.exception() is None)

    try:
        while rest or waiting:
            while rest and len(waiting) < 2 * threads and held(done()) < _HELD:
                waiting.append(pool.submit(work, rest.popleft()))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _held(done: Iterable[list[Encoded]]) -> int:
    return sum(len(image.data) for images in done for image in images)
