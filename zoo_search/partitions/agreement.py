"""How far equivalence sets follow stages, the paper's observation (DeRy section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.result import Partition


def follows_stages(partition: Partition) -> float:
    """Return the adjusted mutual information of the blocks' sets and stages, at most 1."""
    sets = [block.set for block in partition.blocks]
    return adjusted_mutual_information(sets, [block.stage for block in partition.blocks])


def adjusted_mutual_information(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the mutual information of two labellings, corrected for chance.

    ``(MI - E[MI]) / (mean of the entropies - E[MI])``, with the expectation over random labellings
    with the same sizes (Vinh, Epps and Bailey, JMLR 2010, Eqs. 12 and 24a): 1 where they agree, 0
    on average where they have nothing to do with each other. Two constant labellings agree.
    """
    rows = np.unique(np.asarray(one), return_inverse=True)[1]
    columns = np.unique(np.asarray(other), return_inverse=True)[1]
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)
    a, b = table.sum(axis=1), table.sum(axis=0)
    total = len(rows)
    if len(a) == len(b) == 1:
        return 1.0
    share = table[table > 0] / total
    independent = (np.outer(a, b) / total**2)[table > 0]
    mutual = float((share * np.log(share / independent)).sum())
    chance = _expected(a.astype(int), b.astype(int), total)
    entropies = [-float((share * np.log(share)).sum()) for share in (a / total, b / total)]
    spread = sum(entropies) / 2
    return 1.0 if math.isclose(spread, mutual) else (mutual - chance) / (spread - chance)


def _expected(a: NDArray[np.int64], b: NDArray[np.int64], total: int) -> float:
    """Return the expected mutual information of random labellings with these sizes."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    expected = 0.0
    for x in a:
        for y in b:
            n = np.arange(max(1, x + y - total), min(x, y) + 1)
            log_chance = (
                log_factorial[[x, y, total - x, total - y]].sum()
                - log_factorial[total]
                - log_factorial[n]
                - log_factorial[x - n]
                - log_factorial[y - n]
                - log_factorial[total - x - y + n]
            )
            gain = n / total * np.log(total * n / (x * y))
            expected += float((gain * np.exp(log_chance)).sum())
    return expected
