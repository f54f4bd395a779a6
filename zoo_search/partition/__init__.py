"""Blocks of all models in equivalence sets (DeRy section 3.2, Eqs. 2-7).

Calling the package is calling :func:`zoo_search.partition.api.partition`.
"""

from __future__ import annotations

from zoo_search._callable import make_callable
from zoo_search.partition.result import Anchor, Partition, PartitionBlock, RestartRecord

__all__ = ["Anchor", "Partition", "PartitionBlock", "RestartRecord"]

make_callable(__name__, "zoo_search.partition.api", "partition")
