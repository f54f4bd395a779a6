"""The search of a run: reads images, writes ``candidates.parquet`` and ``study.journal``."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo_search.hooks import as_hooks, hooks_identity
from zoo_search.reassembly.candidates import Candidate, from_table, to_table
from zoo_search.reassembly.cost import Budget
from zoo_search.reassembly.costing import cost_table, prepare
from zoo_search.reassembly.scoring import Task, scoring_zoo
from zoo_search.reassembly.search import conditions_of, run_search
from zoo_search.reassembly.space import PartitionLike, Space
from zoo_search.reassembly.stitch_files import stitch_files
from zoo_search.reassembly.target import load_target

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.data.base import Subset
    from zoo_search.store import RunStore
    from zoo_search.zoo.models import Zoo

__all__ = ["CANDIDATES", "JOURNAL", "read", "run"]

CANDIDATES = "candidates.parquet"
JOURNAL = "study.journal"

_STUDY_FORMAT = 4
_KEEP_SECONDS = 30.0


def run(
    parts: PartitionLike,
    zoo: Zoo,
    subset: Subset,
    num_classes: int,
    job: JobConfig,
    store: RunStore,
) -> list[Candidate]:
    """Score the candidates of a run and write them.

    Args:
        parts: Partition of the zoo.
        zoo: The zoo.
        subset: Training images of the target.
        num_classes: Classes of the target.
        job: The run: budget, search, seed.
        store: Where ``candidates.parquet`` and ``study.journal`` go.

    Raises:
        UserError: If no recipe is feasible, a name is unknown, or there are too few images.
    """
    config = job.search
    most = max(config.fit_images, 4 * config.batches * config.batch_size)
    images, labels = load_target(subset, zoo, most)
    costs = cost_table(zoo, num_classes, job.budget, store)
    space = Space(parts, costs, Budget.of(job.budget))
    facts = prepare(space, zoo, job.seed, store)
    task = Task(
        zoo=scoring_zoo(zoo),
        images=images,
        labels=labels,
        num_classes=num_classes,
        proxies=config.proxies,
        init=as_hooks(job.init),
        fit_images=config.fit_images,
        batches=config.batches,
        batch_size=config.batch_size,
        seed=job.seed,
        keeper=stitch_files(store, zoo, subset.fingerprint, config.fit_images),
    )
    with _local_journal(store) as (journal, keep):
        found = run_search(
            space,
            task,
            config.trials,
            config.sampler,
            journal,
            workers=config.workers,
            made_from=_made_from(parts, zoo, subset, job),
            storage=config.storage,
            name=job.name,
            on_told=keep,
        )
    metadata = {
        "search": config.model_dump(mode="json"),
        "init": [hook.model_dump(mode="json") for hook in job.init],
        "budget": job.budget.model_dump(mode="json"),
        "conditions": conditions_of(task),
        "seed": job.seed,
        "images": len(labels),
        "images_fingerprint": subset.fingerprint,
        "note": found.note,
        **facts,
    }
    _write(to_table(found.candidates, config.proxies, metadata), store)
    if found.note:
        from zoo_search.progress import console

        console.print(f"  {found.note}")
    return found.candidates


def read(store: RunStore) -> list[Candidate]:
    """Read the candidates of a run."""
    import pyarrow.parquet as pq

    return from_table(pq.read_table(io.BytesIO(store.read_bytes(CANDIDATES))))


def _write(table: Any, store: RunStore) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store.write_bytes(CANDIDATES, buffer.getvalue())


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


def _made_from(parts: PartitionLike, zoo: Zoo, subset: Subset, job: JobConfig) -> str:
    """Return the hash of everything that decides on the scores."""
    from zoo_search.store import fingerprint

    search = job.search.model_dump(mode="json", exclude={"trials", "workers", "storage"})
    return fingerprint(
        [
            _STUDY_FORMAT,
            {name: model.identity for name, model in zoo.items()},
            [[b.model, b.start, b.stop, b.stage, b.set] for b in parts.blocks],
            [subset.fingerprint, job.seed],
            search,
            hooks_identity(job.init, "candidate"),
            job.budget.model_dump(mode="json"),
        ]
    )
