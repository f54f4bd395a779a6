"""What ``zoo-search partition`` does: a run's step with other options, or a bare file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo_search.errors import UserError, nearest
from zoo_search.partition.result import Partition

if TYPE_CHECKING:
    from zoo_search.config import PartitionConfig

__all__ = ["COLUMNS", "partition_command", "title"]

COLUMNS = {
    "model": "model", "stage": "stage #", "start": "start #", "stop": "stop #", "set": "set #",
    "similarity": "similarity to its anchor #",
}  # fmt: skip


def partition_command(
    job: Path | None,
    similarity: str | None,
    options: Mapping[str, Any],
    *,
    directory: str | None = None,
    address: str | None = None,
    seed: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Partition:
    """Partition the zoo of a run file, or that of a similarity table alone.

    Args:
        job: A run file; its steps up to this one are made where they are missing.
        similarity: Path or fsspec URI of a similarity table; then no run is needed.
        options: Settings of the section ``partition``; None leaves one as the run file, or the
            default, has it.
        directory: Run directory, for a run file.
        address: Ray cluster to join.
        seed: Overrules the run's seed; 0 for a bare table.
        say: Called with a line about each step of a run.

    Raises:
        UserError: If not exactly one of the two is given, or either cannot be used.
    """
    from zoo_search.config import load_job

    given = {name: value for name, value in options.items() if value is not None}
    if (job is None) == (similarity is None):
        raise UserError(
            "'zoo-search partition' needs either a run file, such as jobs/digits.yaml, or "
            "--similarity with the path of a similarity.parquet; "
            f"{'neither was' if job is None else 'both were'} given."
        )
    if job is not None:
        from zoo_search import pipeline

        config = load_job(job)
        changed = _settings({**config.partition.model_dump(), **given})
        config = config.model_copy(update={"partition": changed})
        made = pipeline.run(
            config, until="partition", directory=directory, address=address, seed=seed, say=say
        )
        return made.partition
    from zoo_search import engine
    from zoo_search.partition.step import partition_table
    from zoo_search.similarity.table import SimilarityTable

    settings = _settings(given)
    table = SimilarityTable.load(str(similarity))
    if address or os.environ.get("RAY_ADDRESS"):
        engine.connect(address)
    return partition_table(table, settings, seed or 0)


def _settings(values: Mapping[str, Any]) -> PartitionConfig:
    """Return validated settings, or say which option is wrong, and what it may be."""
    from pydantic import ValidationError

    from zoo_search.config import PartitionConfig

    try:
        return PartitionConfig(**values)
    except ValidationError as error:
        item = error.errors()[0]
        name, given = str(item["loc"][0]), item["input"]
        allowed = getattr(PartitionConfig.model_fields[name].annotation, "__args__", ())
        words = [word for word in allowed if isinstance(word, str)]
        hint = nearest(given, words) if isinstance(given, str) else ""
        raise UserError(
            f"--{name.replace('_', '-')} is {given!r}: {item['msg'][:1].lower()}"
            f"{item['msg'][1:]}.{hint}"
        ) from None


def title(partition: Partition) -> str:
    """Return one line about a partition: objective, bound, gap, and whether sets follow stages."""
    from zoo_search.partition.agreement import follows_stages

    bound = ""
    if partition.upper_bound is not None and partition.gap is not None:
        bound = f", at most {partition.upper_bound:.4f} (gap {partition.gap:.2%})"
    return (
        f"{partition.k} sets, objective {partition.objective:.4f}{bound}, sets follow stages: "
        f"adjusted mutual information {follows_stages(partition):.2f}"
    )
