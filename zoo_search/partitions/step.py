"""The step ``partition``: restarts on the processes of the run where that pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_search.core.progress import progress
from zoo_search.partitions.executor import OnHosts
from zoo_search.partitions.problem.definition import from_table
from zoo_search.partitions.result import to_plain
from zoo_search.partitions.search import find_partition
from zoo_search.partitions.shifts import with_shifts

if TYPE_CHECKING:
    from zoo_search.cluster.hosts import Hosts
    from zoo_search.config import PartitionConfig
    from zoo_search.core.store import RunStore
    from zoo_search.partitions.result import Partition
    from zoo_search.similarities.table import SimilarityTable

ARTIFACT = "partition.json"


def solve(
    table: SimilarityTable,
    config: PartitionConfig,
    seed: int,
    store: RunStore,
    hosts: Hosts | None = None,
) -> tuple[Partition, ...]:
    """Partition the zoo of a similarity table and write ``partition.json``.

    Raises:
        UserError: As :func:`partition_table`.
    """
    found = partition_table(table, config, seed, hosts)
    store.write_json(ARTIFACT, to_plain(found))
    return found


def partition_table(
    table: SimilarityTable, config: PartitionConfig, seed: int, hosts: Hosts | None = None
) -> tuple[Partition, ...]:
    """Partition the zoo of a similarity table for each number of blocks, with progress.

    Restarts run on the connected Ray cluster if what is left of them takes longer than processes
    need to start, else in this process. The sets are the same, bit for bit.

    Without the processes of a run as ``hosts`` some are started and ended here.

    Raises:
        UserError: As :func:`zoo_search.partitions.api.partition`; for whichever number of blocks,
            before any is partitioned.
    """
    problems = [
        from_table(table, k=k, eps=config.eps, size=config.size, one_per_set=config.one_per_set)
        for k in config.ks
    ]
    found = []
    for problem in problems:
        with OnHosts(problem, config.workers, hosts) as executor:
            made = find_partition(
                problem, config.method, seed, config.restarts, config.certify, executor, progress
            )
        found.append(with_shifts(made, table, config.shift, config.tolerance))
    return tuple(found)
