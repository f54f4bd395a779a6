"""Every constraint of Eqs. 2-5 on a finished partition, by plain code that no solver shares."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.result import Anchor, Partition, PartitionBlock

_TOLERANCE = 1e-6
_Key = tuple[str, int, int]


def check(problem: PartitionProblem, partition: Partition) -> None:
    """Raise if the partition breaks a constraint of the problem.

    Raises:
        ValueError: Lists what is broken; with our own solvers that is a fault of theirs.
    """
    broken = violations(problem, partition)
    if broken:
        raise ValueError("The partition breaks its constraints: " + "; ".join(broken[:10]))


def violations(problem: PartitionProblem, partition: Partition) -> list[str]:
    """Return every constraint of Eqs. 2-5 that the partition breaks, in words; empty if none."""
    if len(partition.anchors) != problem.k or partition.k != problem.k:
        return [f"{len(partition.anchors)} anchors for k = {problem.k}"]
    if any(not 0 <= block.set < problem.k for block in partition.blocks):
        return ["a block lies in no set"]
    broken = _cover(problem, partition)
    return broken or _sets(problem, partition) + _numbers(problem, partition)


def _key(block: PartitionBlock | Anchor) -> _Key:
    """Return what makes a block this one."""
    return block.model, block.start, block.stop


def _similarity(
    problem: PartitionProblem, block: PartitionBlock | Anchor, anchor: PartitionBlock | Anchor
) -> float:
    """Return s(start, start') + s(stop, stop')."""
    row = int(problem.offsets[problem.models.index(block.model)])
    column = int(problem.offsets[problem.models.index(anchor.model)])
    values = problem.values[row:, column:]
    return float(values[block.start, anchor.start]) + float(values[block.stop, anchor.stop])


def _cover(problem: PartitionProblem, partition: Partition) -> list[str]:
    """Check Eq. 4 (K blocks in a row make the model) and Eq. 5 (the size limit)."""
    broken = []
    blocks_of: dict[str, list[PartitionBlock]] = defaultdict(list)
    for block in partition.blocks:
        blocks_of[block.model].append(block)
    if set(blocks_of) != set(problem.models):
        return [f"models {sorted(blocks_of)} instead of {sorted(problem.models)}"]
    for name, sizes in zip(problem.models, problem.node_sizes, strict=True):
        blocks = blocks_of[name]
        if [block.stage for block in blocks] != list(range(problem.k)):
            broken.append(f"'{name}': stages {[block.stage for block in blocks]}")
        if blocks[0].start != 0 or blocks[-1].stop != len(sizes):
            broken.append(f"'{name}': the blocks do not span the model")
        if any(before.stop != after.start for before, after in pairwise(blocks)):
            broken.append(f"'{name}': the blocks leave a hole or overlap")
        limit = (1 + Fraction(str(problem.eps))) * sum(sizes) / problem.k
        for block in blocks:
            if not block.start < block.stop:
                broken.append(f"'{name}': stage {block.stage} is empty")
            elif sum(sizes[block.start : block.stop]) >= limit:
                broken.append(f"'{name}': stage {block.stage} reaches the size limit")
    return broken


def _sets(problem: PartitionProblem, partition: Partition) -> list[str]:
    """Check the assignment (Eq. 3) and that each anchor is the most central block of its set."""
    broken = []
    anchors = partition.anchors
    names = {_key(anchor): j for j, anchor in enumerate(anchors)}
    if len(names) != problem.k:
        broken.append("two sets share an anchor")
    fits = np.array([[_similarity(problem, b, a) for a in anchors] for b in partition.blocks])
    for block, fit in zip(partition.blocks, fits, strict=True):
        own = names.get(_key(block))
        if own is not None and own != block.set:
            broken.append(f"the anchor of set {own} lies in set {block.set}")
        free = own is None and not problem.one_per_set
        if free and fit[block.set] < max(fit) - _TOLERANCE:
            broken.append(f"'{block.model}' stage {block.stage} is not in its best anchor's set")
    for j, anchor in enumerate(anchors):
        members = [block for block in partition.blocks if block.set == j]
        if _key(anchor) not in map(_key, members):
            broken.append(f"the anchor of set {j} is no block of it")
            continue
        held = sum(_similarity(problem, block, anchor) for block in members)
        sums = [sum(_similarity(problem, b, other) for b in members) for other in members]
        if held < max(sums) - _TOLERANCE * len(members):
            broken.append(f"the anchor of set {j} is not its most central block")
    if problem.one_per_set:
        broken += _one_per_set(problem, partition, fits, names)
    return broken


def _one_per_set(
    problem: PartitionProblem,
    partition: Partition,
    fits: NDArray[np.float64],
    names: dict[_Key, int],
) -> list[str]:
    """Check that a model's blocks lie in different sets, and that no such choice is better."""
    from scipy.optimize import linear_sum_assignment

    broken = []
    k = problem.k
    for i in range(0, len(partition.blocks), k):
        blocks, fit = partition.blocks[i : i + k], fits[i : i + k].copy()
        now = [block.set for block in blocks]
        if sorted(now) != list(range(k)):
            broken.append(f"'{blocks[0].model}' has two blocks in one set")
            continue
        for row, block in enumerate(blocks):  # an anchor has no choice
            if (own := names.get(_key(block))) is not None:
                fit[row, np.arange(k) != own] = -np.inf
        best = fit[linear_sum_assignment(fit, maximize=True)].sum()
        if best > fit[range(k), now].sum() + _TOLERANCE * k:
            broken.append(f"'{blocks[0].model}' has a better choice of different sets")
    return broken


def _numbers(problem: PartitionProblem, partition: Partition) -> list[str]:
    """Check the similarities, the objective (Eq. 2) and the upper bound that the result states."""
    broken = []
    for block in partition.blocks:
        fit = _similarity(problem, block, partition.anchors[block.set])
        if abs(fit - block.similarity) > _TOLERANCE * max(1.0, abs(fit)):
            broken.append(f"'{block.model}' stage {block.stage}: similarity {block.similarity}")
    total = sum(block.similarity for block in partition.blocks)
    room = _TOLERANCE * max(1.0, sum(abs(block.similarity) for block in partition.blocks))
    if abs(total - partition.objective) > room:
        broken.append(f"objective {partition.objective}, the blocks sum to {total}")
    if partition.upper_bound is not None and partition.upper_bound < partition.objective - room:
        broken.append(f"upper bound {partition.upper_bound} below {partition.objective}")
    return broken
