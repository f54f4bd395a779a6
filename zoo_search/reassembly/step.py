"""The search of a run: reads images, writes ``candidates.parquet`` and ``study.journal``."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from zoo_search.core.errors import UserError
from zoo_search.core.identity import fingerprint
from zoo_search.core.parquet import open_parquet
from zoo_search.core.progress import console
from zoo_search.hooks import as_hooks, hooks_identity
from zoo_search.networks.parents import Parents
from zoo_search.networks.stitch_files import stitch_files
from zoo_search.networks.target_images import load_target
from zoo_search.reassembly.api import run_search
from zoo_search.reassembly.candidates import Candidate, from_table, to_table
from zoo_search.reassembly.costing import measure_costs, open_space
from zoo_search.reassembly.journal import StudyPlace
from zoo_search.reassembly.proxies import PROXIES, find_proxies, traits_of
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.scoring import Scoring, ScoringTask

if TYPE_CHECKING:
    from zoo_search.cluster.hosts import Hosts
    from zoo_search.config import JobConfig, SearchConfig
    from zoo_search.core.store import RunStore
    from zoo_search.data.base import Subset
    from zoo_search.partitions.result import Partition
    from zoo_search.zoo.models import Zoo

CANDIDATES = "candidates.parquet"
JOURNAL = "study.journal"

_STUDY_FORMAT = 4
_KEEP_SECONDS = 30.0


def run(
    partitions: Partition | Sequence[Partition],
    zoo: Zoo,
    subset: Subset,
    num_classes: int,
    job: JobConfig,
    store: RunStore,
    hosts: Hosts | None = None,
) -> list[Candidate]:
    """Score the candidates of a run; write ``candidates.parquet`` and ``study.journal``.

    Raises:
        UserError: If no recipe is feasible, a name is unknown, or there are too few images.
    """
    config = job.search
    scoring = Scoring(
        find_proxies(config.proxies), as_hooks(job.init),
        config.fit_images, config.batches, config.batch_size, job.seed,
    )  # fmt: skip
    images, labels = load_target(subset, zoo, max(config.fit_images, scoring.batch_images))
    space = open_space(
        partitions, zoo, num_classes, job.budget, store, config.prefixes, config.head
    )
    facts = measure_costs(space, zoo, job.seed, store)
    keeper = stitch_files(store, zoo, subset.fingerprint, config.fit_images)
    damaged = keeper.sweep()
    if damaged:
        console.print(f"  {damaged} fitted stitches are damaged: removed, and fitted anew")
    task = ScoringTask(dict(Parents(zoo)), images, labels, num_classes, scoring, keeper)
    made_from = _made_from(partitions, zoo, subset, job)
    scored_from = _scored_from(zoo, subset, job, len(labels))
    proposed_from = _proposed_from(partitions, job, scored_from)
    with _local_journal(store) as (journal, keep):
        place = StudyPlace(journal, made_from, config.storage, job.name, scored_from, proposed_from)
        found = run_search(
            space, task, config.trials, config.sampler, place,
            workers=config.workers, hosts=hosts, on_told=keep,
        )  # fmt: skip
    metadata = {
        "search": config.model_dump(mode="json"),
        "init": [hook.model_dump(mode="json") for hook in job.init],
        "budget": job.budget.model_dump(mode="json"),
        "conditions": scoring.conditions(),
        "seed": job.seed,
        "images": len(labels),
        "images_fingerprint": subset.fingerprint,
        "note": found.note,
        **facts,
    }
    buffer = io.BytesIO()
    pq.write_table(to_table(found.candidates, config.proxies, metadata), buffer)
    store.write_bytes(CANDIDATES, buffer.getvalue())
    if found.note:
        console.print(f"  {found.note}")
    return found.candidates


def read(store: RunStore) -> list[Candidate]:
    """Read the candidates of a run.

    Raises:
        UserError: If the file is not one of ours.
    """
    name = store.path(CANDIDATES)
    try:
        return from_table(open_parquet(store.read_bytes(CANDIDATES), name).read())
    except pa.ArrowException as error:
        raise UserError(
            f"{name} is damaged ({error}). Remove it, and run 'zoo-search reassemble' again."
        ) from None


@contextmanager
def _local_journal(store: RunStore) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Give the journal as a local file, and what keeps it: to be called now and then.

    The journal of a remote run is copied there and, every 30 seconds and at the end, back.
    """
    if store.is_local:
        yield Path(store.path(JOURNAL)), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="zoo-search-") as folder:
        path = Path(folder) / JOURNAL
        if store.exists(JOURNAL):
            path.write_bytes(store.read_bytes(JOURNAL))
        kept = time.monotonic()

        def keep() -> None:
            nonlocal kept
            if time.monotonic() - kept > _KEEP_SECONDS:
                store.write_bytes(JOURNAL, path.read_bytes())
                kept = time.monotonic()

        try:
            yield path, keep
        finally:
            if path.exists():
                store.write_bytes(JOURNAL, path.read_bytes())


def _made_from(
    partitions: Partition | Sequence[Partition], zoo: Zoo, subset: Subset, job: JobConfig
) -> str:
    """Return the hash of everything that decides on the study."""
    search = job.search.identity(without=("trials",))
    return fingerprint(
        [
            _STUDY_FORMAT,
            {name: model.identity for name, model in zoo.items()},
            *_blocks(partitions),
            [subset.fingerprint, job.seed],
            search,
            hooks_identity(job.init, "candidate"),
            job.budget.identity(),
            *own_code(job.search),
        ]
    )


def _scored_from(zoo: Zoo, subset: Subset, job: JobConfig, images: int) -> str:
    """Return the hash of what the scores of a recipe depend on, beside what is a proxy's own.

    ``images`` are how many of the subset a proxy may look at.
    """
    return fingerprint(
        [
            _STUDY_FORMAT,
            {name: model.identity for name, model in zoo.items()},
            [subset.fingerprint, images, job.search.fit_images, job.seed],
            hooks_identity(job.init, "candidate"),
        ]
    )


def _proposed_from(
    partitions: Partition | Sequence[Partition], job: JobConfig, scored_from: str
) -> str:
    """Return the hash of what decides on the proposals, but for the budget and the proxies."""
    search = job.search
    own = SAMPLERS.identity([search.sampler], "search.sampler")
    chosen = [search.sampler, search.prefixes, search.head]
    return fingerprint([scored_from, *_blocks(partitions), chosen, own])


def _blocks(partitions: Partition | Sequence[Partition]) -> list[list[list[object]]]:
    given = partitions if isinstance(partitions, Sequence) else [partitions]
    return [
        [[b.model, b.start, b.stop, b.stage, b.set] for b in (*p.blocks, *p.shifts)] for p in given
    ]


def own_code(search: SearchConfig) -> list[object]:
    """Return what names do not say of proxies and sampler, JSON-like.

    That is the code of a user's own, and the version of a proxy's definition from the second on;
    nothing where there is neither, so that runs from before there were versions stay as they are.
    """
    own = [
        PROXIES.identity(search.proxies, "search.proxies"),
        SAMPLERS.identity([search.sampler], "search.sampler"),
    ]
    found = find_proxies(search.proxies)
    versions = {name: traits_of(proxy).version for name, proxy in found.items()}
    later = {name: version for name, version in versions.items() if version > 1}
    return [*([own] if any(own) else []), *([{"versions": later}] if later else [])]
