"""The Lagrangian relaxation of Eq. 2 whose minimum over prices is the upper bound.

Eq. 2 as an integer program: ``x[B]`` says whether block B (with its stage) is in the partition,
``y[b]`` whether block b is an anchor, ``z[B, b]`` whether b serves B. The coupling ``sum over b of
z[B, b] = x[B]`` is relaxed with a price ``p[B]`` per block, which leaves

    L(p) = sum over models of the best path for the prices p
           + the K largest values r[b],
    r[b] = sum over models of the best path for the scores max(0, S(B, b) - p[B]),

where b itself, and its whole similarity to itself less its price, is on the path of its own model.
Every term is a dynamic program over :mod:`zoo_search.partition.lattice`, for all anchors at once,
so the size limit, contiguity and the number of blocks stay exact. With ``one_per_set`` an anchor
serves exactly one block of each model, and r[b] is a sum of single best blocks.

L(p) is an upper bound for any prices. They are kept on the grid of the similarities, so that sums
are exact, as everywhere else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo_search.partition.lattice import Stage, path_cuts, path_values
from zoo_search.partition.problem import PartitionProblem
from zoo_search.partition.swap import all_blocks

__all__ = ["Relaxation"]

_KEPT_ENTRIES = 1 << 24


class Relaxation:
    """Evaluates L(p) and a subgradient; prices stand in one vector, model, stage, start, stop."""

    def __init__(self, problem: PartitionProblem) -> None:
        self._problem = problem
        self._starts, self._stops = all_blocks(problem)
        sizes = [stage.allowed.size for model in problem.lattice for stage in model]
        self._ends = np.cumsum(sizes)
        self._allowed = np.concatenate(
            [stage.allowed.ravel() for model in problem.lattice for stage in model]
        )
        self._limit = 4 * max(1.0, problem.largest)
        entries = int(self._ends[-1]) * len(self._starts)
        self._kept: dict[int, list[NDArray[np.float64]]] = {}
        self._keep = entries <= _KEPT_ENTRIES

    def first_prices(self) -> NDArray[np.float64]:
        """Return, for each block, its similarity to the best conceivable anchor."""
        found = [
            s.max(axis=2).ravel()
            for n in range(len(self._problem.models))
            for s in self._similarity(n)
        ]
        prices = np.concatenate(found)
        prices[~self._allowed] = 0.0
        return prices

    def on_grid(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the prices as multiples of the similarities' quantum, within bounds."""
        quantum = self._problem.quantum
        inside = np.clip(prices, -self._limit, self._limit)
        return np.asarray(np.round(inside / quantum) * quantum)

    def evaluate(self, prices: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return L(p) and a subgradient."""
        problem, k = self._problem, self._problem.k
        parts = np.split(prices, self._ends[:-1])
        total, slope = 0.0, np.zeros_like(prices)
        gains = np.zeros(len(self._starts))
        for n, model in enumerate(problem.lattice):
            own = [_barred(stage, parts[n * k + t]) for t, stage in enumerate(model)]
            total += float(path_values(own)[0])
            self._count(slope, n, path_cuts(own), 1.0)
            gains += self._gains(n, parts, None)[0]
        top = np.argsort(-gains, kind="stable")[:k]
        for n in range(len(problem.models)):
            served = self._gains(n, parts, top)[1]
            for t in range(k):
                self._place(slope, n, t)[:] -= served[t]
        return total + float(gains[top].sum()), slope

    def _gains(
        self, n: int, parts: list[NDArray[np.float64]], chosen: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """Return what each anchor gains in a model, and for chosen ones what they serve there."""
        problem, k = self._problem, self._problem.k
        model = problem.lattice[n]
        bonus = 2.0 ** np.ceil(np.log2(8 * k * (2 * problem.largest + self._limit) + 1))
        starts = self._starts if chosen is None else self._starts[chosen]
        stops = self._stops if chosen is None else self._stops[chosen]
        mine = np.flatnonzero(problem.cut_model[starts] == n)
        scores = []
        for t, (stage, similarity) in enumerate(zip(model, self._similarity(n), strict=True)):
            held = similarity if chosen is None else similarity[:, :, chosen]
            score = held - parts[n * k + t].reshape(*stage.allowed.shape, 1)
            if not problem.one_per_set:
                np.maximum(score, 0.0, out=score)
            stage.bar(score)
            s, e = starts[mine] - stage.start, stops[mine] - stage.stop
            inside = (s >= 0) & (s < score.shape[0]) & (e >= 0) & (e < score.shape[1])
            s, e, b = s[inside], e[inside], mine[inside]
            price = parts[n * k + t].reshape(stage.allowed.shape)
            score[s, e, b] = held[s, e, b] - price[s, e] + bonus
            scores.append(score)
        if problem.one_per_set:
            flat = np.concatenate([score.reshape(-1, len(starts)) for score in scores])
            values = flat.max(axis=0)
        else:
            values = path_values(scores)
        values[mine] -= bonus
        return values, [] if chosen is None else self._served(scores)

    def _served(self, scores: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Return how many of the anchors serve each block of a model, per stage."""
        counts = [np.zeros(score.shape[0] * score.shape[1]) for score in scores]
        each = np.arange(scores[0].shape[-1])
        if self._problem.one_per_set:
            ends = np.cumsum([len(count) for count in counts])
            flat = np.concatenate([score.reshape(-1, len(each)) for score in scores])
            for at in flat.argmax(axis=0):
                t = int(np.searchsorted(ends, at, side="right"))
                counts[t][at - ends[t]] += 1  # counts from the end of its stage
            return counts
        places = path_cuts(scores)
        for t, score in enumerate(scores):
            paid = score[places[:, t], places[:, t + 1], each] > 0
            at = places[:, t] * score.shape[1] + places[:, t + 1]
            np.add.at(counts[t], at[paid], 1.0)
        return counts

    def _place(self, vector: NDArray[np.float64], n: int, t: int) -> NDArray[np.float64]:
        """Return the view of a price vector at stage t of a model."""
        index = n * self._problem.k + t
        low = self._ends[index - 1] if index else 0
        return vector[low : self._ends[index]]

    def _count(
        self, vector: NDArray[np.float64], n: int, places: NDArray[np.int64], by: float
    ) -> None:
        """Add ``by`` at the blocks of one path of a model."""
        for t, stage in enumerate(self._problem.lattice[n]):
            at = places[0, t] * stage.allowed.shape[1] + places[0, t + 1]
            self._place(vector, n, t)[at] += by

    def _similarity(self, n: int) -> list[NDArray[np.float64]]:
        """Return S of a model's blocks with every possible anchor, [S, E, B] for each stage."""
        if n not in self._kept:
            values = self._problem.values
            found = [
                values[stage.rows].take(self._starts, axis=1)[:, None]
                + values[stage.columns].take(self._stops, axis=1)[None]
                for stage in self._problem.lattice[n]
            ]
            for stage, similarity in zip(self._problem.lattice[n], found, strict=True):
                similarity[~stage.allowed] = -self._limit
            if not self._keep:
                return found
            self._kept[n] = found
        return self._kept[n]


def _barred(stage: Stage, prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the prices of a stage as scores, [S, E, 1]."""
    scores = prices.reshape(*stage.allowed.shape, 1).copy()
    stage.bar(scores)
    return scores
