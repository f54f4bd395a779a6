"""The first pass: decoded images, window by window, through the models, to Gram files on disk.

Every missing pair of a model and a batch is one call of a host, which prefers batches of the model
that it has. While the hosts work on one window of images, the next is decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from zoo_search import cluster
from zoo_search.cluster.actors import ActorPool
from zoo_search.cluster.hosts import Hosts
from zoo_search.config import SimilarityConfig
from zoo_search.core.errors import UserError
from zoo_search.core.progress import console, progress
from zoo_search.core.store import RunStore
from zoo_search.core.timeout import Timeout
from zoo_search.data.base import Subset
from zoo_search.similarities.estimators.kernels import MIN_IMAGES
from zoo_search.similarities.estimators.registry import Metric
from zoo_search.similarities.passes import grams, needs
from zoo_search.similarities.passes.extract import Extractor, ModelJob
from zoo_search.similarities.passes.grams import Header
from zoo_search.similarities.passes.images import ImageBatch, image_batches, windows_of

GramPool = ActorPool[str, tuple[Header, bytes]]
_WINDOWS = 3  # that share the budget: one is at work, one waits, and one is being decoded
_LOOK = 0.5  # seconds between looks at the window that is being decoded
_COPY_AFTER = 30.0  # seconds; a copy costs its host the model that it has


def write_gram_files(
    jobs: Mapping[str, ModelJob],
    subset: Subset,
    batches: Sequence[Sequence[str]],
    config: SimilarityConfig,
    metric: Metric,
    store: RunStore,
    cuts: int,
    hosts: Hosts,
) -> Iterator[Header]:
    """Run the models over the batches that they lack, and put each file in place as it comes.

    ``batches`` are the sample ids of all batches, ``cuts`` the cuts of all models of the zoo, for
    what the step needs.

    Raises:
        UserError: Before anything is run, if it will not fit; as :func:`run_windows` does; or if
            too few images of a batch can be decoded.
    """
    have = cluster.connect()
    left = Counter({name: len(job.missing) for name, job in jobs.items()})
    count = have.workers(config.workers, left.total())
    needed = needs.needs_of(jobs, cuts, [len(batch) for batch in batches], config)
    room = needs.room_for(have, store, count)
    needs.check(needed, room)
    console.print("  " + needs.say(needed, room, len(jobs), left.total()), soft_wrap=True)
    window = config.window_mb * 1_000_000 // _WINDOWS
    # As many CPUs are left to the hosts as there are hosts, but one a node for decoding.
    cpus = max(have.nodes, have.cpus - count)
    with (
        start_pool(hosts, count, jobs, config, metric) as pool,
        progress("similarity", left.total()) as bar,
    ):
        for view in dict.fromkeys(job.transform.view for job in jobs.values()):
            alike = {name: job for name, job in jobs.items() if job.transform.view == view}
            wanted = sorted(set().union(*(job.missing for job in alike.values())))
            sizes = [len(batches[index]) * view.nbytes for index in wanted]
            runs = [[wanted[i] for i in run] for run in windows_of(sizes, window)]
            decoded = map(checked, image_batches(subset, batches, view, runs, cpus))
            for header, data in run_windows(pool, alike, decoded):
                store.write_bytes(grams.path_of(header.model, header.batch), data)
                left[header.model] -= 1
                total = len(jobs[header.model].missing)
                done = f"{header.model} {total - left[header.model]}/{total}"
                bar.advance(note=f"{done}, {len(+left)} models left")
                yield header


def start_pool(
    hosts: Hosts, count: int, jobs: Mapping[str, ModelJob], config: SimilarityConfig, metric: Metric
) -> GramPool:
    """Give hosts the role of extracting; a model is sent when the first host needs it."""
    have = cluster.resources()
    return ActorPool(
        hosts,
        count,
        Extractor,
        (config, metric, max(1, have.cpus // count)),
        what="the Gram matrices",
        cure="Set similarity.workers to a smaller number, or leave the model out, and run the same "
        "command again: finished batches are kept.",
        gpu=have.gpus > 0,
        in_flight=2,
        copy_after=_COPY_AFTER,
        shared=lambda name: (jobs[name].graph, jobs[name].transform),
    )


def run_windows(
    pool: GramPool, jobs: Mapping[str, ModelJob], windows: Iterator[list[ImageBatch]]
) -> Iterator[tuple[Header, bytes]]:
    """Yield the Gram files as they come, in no fixed order.

    Of the windows of images, which are read one ahead in a thread, what a job lacks is run.

    Raises:
        UserError: If a model gives a NaN or infinite feature, hosts die over one batch again
            and again, or nothing comes for long.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="window")
    ahead: Future[list[ImageBatch] | None] | None = reader.submit(next, windows, None)
    try:
        while ahead is not None or pool.unanswered:
            # A window is taken when it is there and too little waits, or when nothing else is left.
            if ahead is None or (pool.unanswered and not (ahead.done() and pool.needs_work())):
                if (answer := pool.poll(_LOOK)) is not None:
                    yield answer[1]
                continue
            window = _wait_for(ahead)
            ahead = reader.submit(next, windows, None) if window is not None else None
            for name, job in jobs.items():
                for batch in window or ():
                    if batch.index in job.missing:
                        pool.submit(
                            name, name, job.made_from, batch.index, batch.ids, batch.images,
                            name=f"the model '{name}' on batch {batch.index}", affinity=name,
                        )  # fmt: skip
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


def _wait_for(window: Future[list[ImageBatch] | None]) -> list[ImageBatch] | None:
    """Return a window of images, or None after the last one; a long silence is an error."""
    limit = Timeout("the decoded images")
    while not wait([window], timeout=_LOOK).done:
        limit.check()
    try:
        return window.result()
    except Exception as error:
        # A UserError of those who decode comes as itself, not in Ray's wrapping.
        found: BaseException | None = error
        for _ in range(8):
            if type(found) is UserError:
                raise found from None
            found = getattr(found, "cause", None) or getattr(found, "__cause__", None)
        raise


def checked(window: list[ImageBatch]) -> list[ImageBatch]:
    """Return a window; raise :class:`UserError` if too few images of a batch can be decoded."""
    for batch in window:
        if len(batch.ids) < MIN_IMAGES:
            raise UserError(
                f"Only {len(batch.ids)} images of batch {batch.index} can be decoded; similarity "
                f"needs {MIN_IMAGES} in each. Repair the files, or raise similarity.batch_size."
            )
    return window
