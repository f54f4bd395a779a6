"""Blocks of all models in equivalence sets (DeRy section 3.2, Eqs. 2-7)."""

from zoo_search.partitions.result import (
    Anchor,
    Partition,
    PartitionBlock,
    RestartRecord,
    load_partitions,
    save_partitions,
)

__all__ = [
    "Anchor",
    "Partition",
    "PartitionBlock",
    "RestartRecord",
    "load_partitions",
    "save_partitions",
]
