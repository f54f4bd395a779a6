"""The first pass: decoded images, window by window, through the models, to Gram parts on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo_search.errors import UserError
from zoo_search.progress import Bar, console, progress
from zoo_search.similarity import estimate, grams
from zoo_search.similarity.estimators import MIN_IMAGES
from zoo_search.similarity.extract import Settings
from zoo_search.similarity.gather import (
    ImageBatch,
    View,
    gather_batches,
    image_bytes,
    windows_of,
)
from zoo_search.similarity.pool import Job, Pool, actors_for

if TYPE_CHECKING:
    from zoo_search.config import SimilarityConfig
    from zoo_search.data.base import Subset
    from zoo_search.similarity.grams import Header
    from zoo_search.store import RunStore
    from zoo_search.zoo.models import ZooModel

__all__ = ["check_sizes", "user_errors", "view_of", "write_parts"]

_WINDOWS = 3


def view_of(model: ZooModel) -> View:
    """Return how a model wants its images decoded."""
    t = model.transform
    return View(t.size, t.interpolation, t.crop_pct)


def write_parts(
    jobs: Mapping[str, Job],
    views: Mapping[str, View],
    subset: Subset,
    batches: Sequence[Sequence[str]],
    settings: Settings,
    config: SimilarityConfig,
    store: RunStore,
    cuts: int,
) -> Iterator[Header]:
    """Run the models over the batches that they lack, and put each part in place as it comes.

    Args:
        jobs: The models, with what they lack.
        views: How each of them wants its images.
        subset: The images.
        batches: Sample ids of all batches.
        settings: How the models are run.
        config: The section ``similarity`` of the run file.
        store: The run directory.
        cuts: Cuts of all models of the zoo, for the estimate.

    Raises:
        UserError: Before anything is run, if it will not fit; as :meth:`Pool.run` does; or if too
            few images of a batch can be decoded.
    """
    from zoo_search import engine

    have = engine.connect()
    sizes = [len(batch) for batch in batches]
    calls = sum(len(job.missing) for job in jobs.values())
    count = actors_for(have, calls, config.workers)
    window = config.window_mb * 1_000_000
    image = max(image_bytes(view) for view in views.values())
    needs = estimate.needs_of(jobs, cuts, sizes, image, settings, window)
    room = estimate.room_for(have, store, count)
    estimate.check(needs, room)
    left = {name: len(job.missing) for name, job in jobs.items()}
    with contextlib.closing(Pool(settings, count)) as pool:
        decode = estimate.decode_seconds(subset, _images(jobs, views, sizes))
        speeds = pool.probe(jobs, max(sizes))
        seconds = estimate.run_seconds(jobs, sizes, speeds, count, have, decode)
        seconds += estimate.product_seconds(cuts, sizes, settings.metric)
        console.print("  " + estimate.say(needs, room, seconds, jobs), soft_wrap=True)
        with progress("similarity", calls) as bar:
            for view in dict.fromkeys(views.values()):
                part = {name: job for name, job in jobs.items() if views[name] == view}
                windows = _windows(part, view, subset, batches, window)
                for header, data in pool.run(part, windows):
                    store.write_bytes(grams.path_of(header.model, header.batch), data)
                    left[header.model] -= 1
                    _tell(bar, header.model, left, len(jobs[header.model].missing))
                    yield header


def _images(
    jobs: Mapping[str, Job], views: Mapping[str, View], sizes: Sequence[int]
) -> dict[View, int]:
    """Return how many images are to be decoded for each view."""
    wanted: dict[View, set[int]] = {}
    for name, job in jobs.items():
        wanted.setdefault(views[name], set()).update(job.missing)
    return {view: sum(sizes[index] for index in batches) for view, batches in wanted.items()}


def _windows(
    jobs: Mapping[str, Job],
    view: View,
    subset: Subset,
    batches: Sequence[Sequence[str]],
    budget: int,
) -> Iterator[list[ImageBatch]]:
    """Decode the batches that some model lacks, in windows that share the budget.

    One is at work, one waits, and one is being decoded.
    """
    wanted = sorted(set().union(*(job.missing for job in jobs.values())))
    sizes = [len(batches[index]) * image_bytes(view) for index in wanted]
    windows = [[wanted[i] for i in run] for run in windows_of(sizes, budget // _WINDOWS)]
    for window in gather_batches(subset, batches, view, windows):
        check_sizes(window)
        yield window
        del window


def _tell(bar: Bar, name: str, left: Mapping[str, int], total: int) -> None:
    """Say how far a model is, and how many are not done."""
    models = sum(count > 0 for count in left.values())
    bar.advance(note=f"{name} {total - left[name]}/{total}, {models} models left")


def check_sizes(images: Sequence[ImageBatch]) -> None:
    """Raise :class:`UserError` if a batch has fewer images that can be decoded than it needs."""
    for batch in images:
        if len(batch.ids) < MIN_IMAGES:
            raise UserError(
                f"Only {len(batch.ids)} images of batch {batch.index} can be decoded; similarity "
                f"needs {MIN_IMAGES} in each. Repair the files, or raise similarity.batch_size."
            )


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Let a :class:`UserError` of a worker through as itself, not in Ray's wrapping."""
    try:
        yield
    except Exception as error:
        found: Any = error
        for _ in range(8):
            if type(found) is UserError:
                raise found from None
            found = getattr(found, "cause", None) or getattr(found, "__cause__", None)
        raise
