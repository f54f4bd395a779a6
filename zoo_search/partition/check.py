"""Every constraint of Eqs. 2-5 on a finished partition, by plain code that no solver shares."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import combinations, pairwise, permutations

from zoo_search.partition.problem import PartitionProblem
from zoo_search.partition.result import Anchor, Partition, PartitionBlock

__all__ = ["check", "violations"]

_TOLERANCE = 1e-6
_ALL_PERMUTATIONS_UP_TO = 6


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
    if broken:
        return broken
    return _sets(problem, partition) + _numbers(problem, partition)


def _similarity(
    problem: PartitionProblem, block: PartitionBlock | Anchor, anchor: PartitionBlock | Anchor
) -> float:
    """Return s(start, start') + s(stop, stop')."""
    row = int(problem.offsets[problem.models.index(block.model)])
    column = int(problem.offsets[problem.models.index(anchor.model)])
    values = problem.values
    return float(values[row + block.start, column + anchor.start]) + float(
        values[row + block.stop, column + anchor.stop]
    )


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
    names = {(anchor.model, anchor.start, anchor.stop): j for j, anchor in enumerate(anchors)}
    if len(names) != problem.k:
        broken.append("two sets share an anchor")
    fits = [
        [_similarity(problem, block, anchor) for anchor in anchors] for block in partition.blocks
    ]
    for block, fit in zip(partition.blocks, fits, strict=True):
        own = names.get((block.model, block.start, block.stop))
        if own is not None and own != block.set:
            broken.append(f"the anchor of set {own} lies in set {block.set}")
        free = own is None and not problem.one_per_set
        if free and fit[block.set] < max(fit) - _TOLERANCE:
            broken.append(f"'{block.model}' stage {block.stage} is not in its best anchor's set")
    for j, anchor in enumerate(anchors):
        members = [block for block in partition.blocks if block.set == j]
        if not any((b.model, b.start, b.stop) == (*_key(anchor),) for b in members):
            broken.append(f"the anchor of set {j} is no block of it")
            continue
        held = sum(_similarity(problem, block, anchor) for block in members)
        sums = [sum(_similarity(problem, b, other) for b in members) for other in members]
        if held < max(sums) - _TOLERANCE * len(members):
            broken.append(f"the anchor of set {j} is not its most central block")
    if problem.one_per_set:
        broken += _one_per_set(problem, partition, fits, names)
    return broken


def _key(anchor: Anchor) -> tuple[str, int, int]:
    return anchor.model, anchor.start, anchor.stop


def _one_per_set(
    problem: PartitionProblem,
    partition: Partition,
    fits: list[list[float]],
    names: dict[tuple[str, int, int], int],
) -> list[str]:
    """Check that a model's blocks lie in different sets, and that no other such choice is better.

    All choices are tried up to six blocks, exchanges of two beyond that.
    """
    broken = []
    k = problem.k
    for i in range(0, len(partition.blocks), k):
        blocks, fit = partition.blocks[i : i + k], fits[i : i + k]
        now = tuple(block.set for block in blocks)
        if sorted(now) != list(range(k)):
            broken.append(f"'{blocks[0].model}' has two blocks in one set")
            continue
        fixed = [names.get((b.model, b.start, b.stop)) for b in blocks]
        options = list(permutations(range(k))) if k <= _ALL_PERMUTATIONS_UP_TO else _exchanges(now)
        for option in options:
            if any(f not in (None, s) for f, s in zip(fixed, option, strict=True)):
                continue
            value = sum(fit[b][option[b]] - fit[b][now[b]] for b in range(k))
            if value > _TOLERANCE * k:
                broken.append(f"'{blocks[0].model}' has a better choice of different sets")
                break
    return broken


def _exchanges(now: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return every assignment that exchanges two entries."""
    options = []
    for a, b in combinations(range(len(now)), 2):
        option = list(now)
        option[a], option[b] = option[b], option[a]
        options.append(tuple(option))
    return options


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
