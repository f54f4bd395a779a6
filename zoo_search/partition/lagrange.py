"""An upper bound on the objective of Eq. 2: a Lagrangian relaxation driven down by subgradients.

The relaxation (:mod:`zoo_search.partition.relaxation`) is an upper bound for any prices. They begin
at what the best conceivable anchor gives each block and follow averaged subgradients with Polyak's
step towards the objective that is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zoo_search.partition.bound import upper_bound
from zoo_search.partition.problem import PartitionProblem
from zoo_search.partition.relaxation import Relaxation
from zoo_search.partition.swap import all_blocks

__all__ = ["Bound", "lagrangian_bound", "quick_bound"]

_AVERAGE = 0.8  # weight of earlier subgradients in the direction
_WAIT = 25  # steps without progress until the step is shortened
_SHORTER = 0.7
_SHORTEST = 1e-4
_CLOSE = 1e-7
_QUICK_STEPS, _QUICK_ENTRIES = 300, 10**8


@dataclass(frozen=True)
class Bound:
    """An upper bound and how it was found.

    Attributes:
        value: No partition of the problem exceeds it.
        steps: Evaluations of the relaxation.
        settled: Whether more time would not help: the bound meets the objective, or the prices
            no longer improve, so that what is left is the relaxation's own gap or the search's.
        history: Seconds and best bound, whenever that fell by a visible amount.
    """

    value: float
    steps: int
    settled: bool
    history: tuple[tuple[float, float], ...]


def lagrangian_bound(
    problem: PartitionProblem,
    objective: float,
    seconds: float,
    on_step: Callable[[float, float], None] | None = None,
    steps: int | None = None,
) -> Bound:
    """Return the best bound found within ``seconds``.

    Args:
        problem: The problem.
        objective: Of a partition that is known; the target of the steps.
        seconds: Wall time to spend; it ends earlier when the bound is settled.
        on_step: Called after every step with the seconds spent and the best bound.
        steps: Evaluations to spend at most, which no clock decides.
    """
    began = time.perf_counter()
    relaxation = Relaxation(problem)
    prices = relaxation.first_prices()
    best, best_prices, direction = np.inf, prices, np.zeros_like(prices)
    simple = upper_bound(problem)
    history = [(time.perf_counter() - began, simple)]
    length, waited, done = 1.0, 0, 0
    tolerance = _CLOSE * max(1.0, abs(objective))
    while True:
        value, slope = relaxation.evaluate(prices)
        done += 1
        waited += 1
        if value < best:
            waited = 0 if value < best - tolerance else waited
            best, best_prices = value, prices
        now = time.perf_counter() - began
        if best < history[-1][1] - 1e-4 * abs(objective):
            history.append((now, best))
        if on_step is not None:
            on_step(now, min(best, simple))
        settled = best - objective <= tolerance or length < _SHORTEST
        if settled or now >= seconds or done == steps:
            break
        lost = value > best + 2 * (best - objective) + tolerance
        if waited > _WAIT or lost:
            length, waited = length * _SHORTER, 0
            prices, direction = best_prices, np.zeros_like(direction)
            if not lost:
                continue
            value, slope = relaxation.evaluate(prices)
        direction = _AVERAGE * direction + (1 - _AVERAGE) * slope
        size = float(direction @ direction)
        if size > 0:
            prices = relaxation.on_grid(
                prices - length * max(value - objective, tolerance) / size * direction
            )
    value = min(best, simple)
    history.append((time.perf_counter() - began, value))
    return Bound(value, done, settled, tuple(history))


def quick_bound(problem: PartitionProblem, objective: float) -> float:
    """Return an upper bound for about a second's work, the same on every machine.

    The steps are so few that a large zoo gets the simple bound.
    """
    blocks = sum(stage.allowed.size for model in problem.lattice for stage in model)
    steps = min(_QUICK_STEPS, _QUICK_ENTRIES // (blocks * len(all_blocks(problem)[0])))
    if steps == 0:
        return upper_bound(problem)
    return lagrangian_bound(problem, objective, np.inf, steps=steps).value
