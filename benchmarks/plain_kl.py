"""The paper's partition method in plain Python, block by block: a yardstick for the benchmark.

Written from section 3.2 of the paper alone and independent of the library's solvers: it shares the
problem (similarities, size limit) and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from zoo_search.partitions.problem.definition import PartitionProblem

Block = tuple[int, int, int]  # model, start, stop
PATIENCE = 3


class _Zoo:
    """Similarities as nested lists, and the size limit."""

    def __init__(self, problem: PartitionProblem) -> None:
        self.values = problem.values.tolist()
        self.offsets = [int(offset) for offset in problem.offsets]
        self.sizes = problem.node_sizes
        self.k = problem.k
        self.eps = problem.eps

    def similarity(self, block: Block, anchor: Block) -> float:
        """S(B, B') = s(start, start') + s(stop, stop')."""
        row, column = self.offsets[block[0]], self.offsets[anchor[0]]
        start = self.values[row + block[1]][column + anchor[1]]
        return float(start + self.values[row + block[2]][column + anchor[2]])

    def fits(self, block: Block) -> bool:
        """Eq. 5, and no empty block."""
        model, start, stop = block
        sizes = self.sizes[model]
        limit = (1 + self.eps) * sum(sizes) / self.k
        return start < stop and sum(sizes[start:stop]) < limit * (1 - 1e-12)

    def random_cuts(self, model: int, rng: random.Random) -> list[int]:
        """Cuts drawn until all blocks fit."""
        depth = len(self.sizes[model])
        while True:
            cuts = [0, *sorted(rng.sample(range(1, depth), self.k - 1)), depth]
            if all(self.fits((model, a, b)) for a, b in pairwise(cuts)):
                return cuts


def plain_kl(problem: PartitionProblem, seed: int) -> float:
    """Return the objective of one restart."""
    zoo, rng = _Zoo(problem), random.Random(seed)
    cuts = [zoo.random_cuts(model, rng) for model in range(len(zoo.sizes))]
    anchors = rng.sample(_blocks(cuts), zoo.k)
    sets = _assign(zoo, _blocks(cuts), anchors)
    best, waited = float("-inf"), 0
    while waited < PATIENCE:
        before = [list(model) for model in cuts]
        _swap(zoo, cuts, sets, anchors)
        objective, sets, anchors = _cluster(zoo, _blocks(cuts), sets, anchors)
        waited = 0 if objective > best else waited + 1
        best = max(best, objective)
        if cuts == before:
            break
    return best


def _blocks(cuts: Sequence[Sequence[int]]) -> list[Block]:
    return [(model, start, stop) for model, row in enumerate(cuts) for start, stop in pairwise(row)]


def _swap(zoo: _Zoo, cuts: list[list[int]], sets: list[int], anchors: list[Block]) -> None:
    """Eqs. 6, 7: a node forward, a node back, or neither, until no boundary moves; in place."""
    for model, row in enumerate(cuts):
        moved = True
        while moved:
            moved = False
            for stage in range(zoo.k - 1):
                near = anchors[sets[model * zoo.k + stage]]
                far = anchors[sets[model * zoo.k + stage + 1]]
                options = []
                for shift in (0, -1, 1):
                    first = (model, row[stage], row[stage + 1] + shift)
                    second = (model, row[stage + 1] + shift, row[stage + 2])
                    if zoo.fits(first) and zoo.fits(second):
                        value = zoo.similarity(first, near) + zoo.similarity(second, far)
                        options.append((value, shift))
                shift = max(options, key=lambda option: option[0])[1]
                row[stage + 1] += shift
                moved = moved or shift != 0


def _assign(zoo: _Zoo, blocks: list[Block], anchors: list[Block]) -> list[int]:
    """Each block to the set of its best anchor; an anchor to its own."""
    sets = []
    for block in blocks:
        if block in anchors:
            sets.append(anchors.index(block))
            continue
        fit = [zoo.similarity(block, anchor) for anchor in anchors]
        sets.append(fit.index(max(fit)))
    return sets


def _best_anchors(
    zoo: _Zoo, blocks: list[Block], sets: list[int], anchors: list[Block]
) -> list[Block]:
    """The block of each set with the largest summed similarity."""
    found = []
    for j, anchor in enumerate(anchors):
        members = [block for block, owner in zip(blocks, sets, strict=True) if owner == j]
        sums = [sum(zoo.similarity(b, other) for b in members) for other in members]
        found.append(members[sums.index(max(sums))] if members else anchor)
    return found


def _cluster(
    zoo: _Zoo, blocks: list[Block], sets: list[int], anchors: list[Block]
) -> tuple[float, list[int], list[Block]]:
    """K-means style: anchors for the sets, sets for the anchors, until nothing improves."""
    best = float("-inf")
    anchors = _best_anchors(zoo, blocks, sets, anchors)
    while True:
        new_sets = _assign(zoo, blocks, anchors)
        new_anchors = _best_anchors(zoo, blocks, new_sets, anchors)
        objective = sum(
            zoo.similarity(block, new_anchors[j]) for block, j in zip(blocks, new_sets, strict=True)
        )
        if objective <= best:
            return best, sets, anchors
        best, sets, anchors = objective, new_sets, new_anchors
