"""The Lagrangian relaxation of Eq. 2 whose minimum over prices is the upper bound.

Eq. 2 as an integer program: ``x[B]`` says whether block B (with its stage) is in the partition,
``y[b]`` whether block b is an anchor, ``z[B, b]`` whether b serves B. The coupling ``sum over b of
z[B, b] = x[B]`` is relaxed with a price ``p[B]`` per block, which leaves

    L(p) = sum over models of the best path for the prices p
           + the K largest values r[b],
    r[b] = sum over models of the best path for the scores max(0, S(B, b) - p[B]),

where b itself, and its whole similarity to itself less its price, is on the path of its own model.
Every term is a dynamic program over :mod:`~.problem.lattice`, for all anchors at once,
so the size limit, contiguity and the number of blocks stay exact. With ``one_per_set`` an anchor
serves exactly one block of each model, and r[b] is a sum of single best blocks.

L(p) is an upper bound for any prices. They are kept on the grid of the similarities, so that sums
are exact, as everywhere else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partitions.problem.definition import PartitionProblem
from zoo_search.partitions.problem.lattice import Scores, Stage, path_cuts, path_values

_KEPT_ENTRIES = 1 << 24


class Relaxation:
    """Evaluates L(p) and a subgradient; prices stand in one vector, model, stage, start, stop."""

    def __init__(self, problem: PartitionProblem) -> None:
        self._problem, self._anchors = problem, problem.blocks
        stages = [stage for model in problem.lattice for stage in model]
        self._ends = np.cumsum([stage.allowed.size for stage in stages])
        self._allowed = np.concatenate([stage.allowed.ravel() for stage in stages])
        self._limit = 4 * max(1.0, problem.largest)
        self._kept: dict[int, list[Scores]] = {}
        self._keep = int(self._ends[-1]) * len(self._anchors.start) <= _KEPT_ENTRIES

    def first_prices(self) -> Scores:
        """Return, for each block, its similarity to the best conceivable anchor."""
        models = range(len(self._problem.models))
        found = [s.max(axis=2).ravel() for n in models for s in self._similarity(n)]
        prices = np.concatenate(found)
        prices[~self._allowed] = 0.0
        return prices

    def on_grid(self, prices: Scores) -> Scores:
        """Return the prices as multiples of the similarities' quantum, within bounds."""
        quantum = self._problem.quantum
        inside = np.clip(prices, -self._limit, self._limit)
        return np.asarray(np.round(inside / quantum) * quantum)

    def evaluate(self, prices: Scores) -> tuple[float, Scores]:
        """Return L(p) and a subgradient."""
        problem, k = self._problem, self._problem.k
        total, slope = 0.0, np.zeros_like(prices)
        priced, slopes = self._by_stage(prices), self._by_stage(slope)
        gains = np.zeros(len(self._anchors.start))
        for n, model in enumerate(problem.lattice):
            # max over x: the dearest way to cut the model. Its blocks are the slope of this term.
            own = [_barred(stage, price) for stage, price in zip(model, priced[n], strict=True)]
            total += float(path_values(own)[0])
            path = path_cuts(own)[0]
            for t in range(k):
                slopes[n][t][path[t], path[t + 1]] += 1.0
            gains += self._gains(n, priced[n], None)[0]
        # max over y and z: the K anchors with the largest gains over all models; each pays the
        # prices of the blocks that it serves. Only for these K is the service looked up.
        top = np.argsort(-gains, kind="stable")[:k]
        for n in range(len(problem.models)):
            for mine, served in zip(slopes[n], self._gains(n, priced[n], top)[1], strict=True):
                mine -= served
        return total + float(gains[top].sum()), slope

    def _by_stage(self, vector: Scores) -> list[list[Scores]]:
        """Return the views [S, E] of a vector of all blocks, for each model and stage."""
        parts = iter(np.split(vector, self._ends[:-1]))
        lattice = self._problem.lattice
        return [[next(parts).reshape(stage.allowed.shape) for stage in model] for model in lattice]

    def _gains(
        self, n: int, priced: list[Scores], chosen: NDArray[np.int64] | None
    ) -> tuple[Scores, list[Scores]]:
        """Return what each anchor gains in a model, and for chosen ones what they serve there.

        This is the term of model n in r[b], for all anchors b (or the chosen ones) at once.
        """
        problem = self._problem
        # More than any path can gain or lose: K stages of S (at most twice the largest similarity)
        # less a price (at most the limit). A power of two is exact to add and to take off.
        most = problem.k * (2 * problem.largest + self._limit)
        bonus = 2.0 ** np.ceil(np.log2(8 * most + 1))
        anchors = self._anchors if chosen is None else self._anchors[chosen]
        # Anchors that are blocks of this very model.
        own = np.flatnonzero(problem.cut_model[anchors.start] == n)
        scores = []
        for stage, price, similarity in zip(
            problem.lattice[n], priced, self._similarity(n), strict=True
        ):
            held = similarity if chosen is None else similarity[:, :, chosen]
            score = held - price[:, :, None]
            # An anchor serves a block only where that pays, but goes through it all the same.
            if not problem.one_per_set:
                np.maximum(score, 0.0, out=score)
            stage.bar(score)
            # An anchor of this very model has to be a block of it, at the place [s, e] of the one
            # stage where it fits, and serves itself whether that pays or not: it gets its whole
            # score there, and the bonus, which no path past it can make up for.
            s, e, inside = stage.within(anchors[own])
            s, e, b = s[inside], e[inside], own[inside]
            score[s, e, b] = held[s, e, b] - price[s, e] + bonus
            scores.append(score)
        # One block of each model a set is the best of all stages.
        values = _flat(scores).max(axis=0) if problem.one_per_set else path_values(scores)
        values[own] -= bonus
        return values, [] if chosen is None else self._served(scores)

    def _served(self, scores: list[Scores]) -> list[Scores]:
        """Return how many of the anchors serve each block of a model, [S, E] per stage."""
        counts = [np.zeros(score.shape[:2]) for score in scores]
        if self._problem.one_per_set:
            blocks = sum(count.size for count in counts)
            served = np.bincount(_flat(scores).argmax(axis=0), minlength=blocks)
            for count in counts:
                mine, served = np.split(served, [count.size])
                count += mine.reshape(count.shape)
            return counts
        # Blocks on the path that score nothing are passed, not served. A forced anchor is above 0.
        places, each = path_cuts(scores), np.arange(scores[0].shape[-1])
        for t, score in enumerate(scores):
            paid = score[places[:, t], places[:, t + 1], each] > 0
            np.add.at(counts[t], (places[paid, t], places[paid, t + 1]), 1.0)
        return counts

    def _similarity(self, n: int) -> list[Scores]:
        """Return S of a model's blocks with every possible anchor, [S, E, B] for each stage."""
        if n in self._kept:
            return self._kept[n]
        values, anchors = self._problem.values, self._anchors
        found = []
        for stage in self._problem.lattice[n]:
            to_start = values[stage.rows].take(anchors.start, axis=1)
            to_stop = values[stage.columns].take(anchors.stop, axis=1)
            found.append(to_start[:, None] + to_stop[None])
            found[-1][~stage.allowed] = -self._limit
        if self._keep:
            self._kept[n] = found
        return found


def _barred(stage: Stage, prices: Scores) -> Scores:
    """Return the prices [S, E] of a stage as scores, [S, E, 1]."""
    scores = prices[:, :, None].copy()
    stage.bar(scores)
    return scores


def _flat(scores: list[Scores]) -> Scores:
    """Return the scores of all stages' blocks in one axis, [blocks, R]."""
    return np.concatenate([score.reshape(-1, score.shape[-1]) for score in scores])
