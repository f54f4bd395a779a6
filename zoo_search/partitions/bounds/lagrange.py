"""An upper bound on the objective of Eq. 2: a Lagrangian relaxation driven down by subgradients.

The relaxation (:mod:`.relaxation`) bounds it for any prices. They begin at what the best anchor
gives each block, and follow averaged subgradients with Polyak's step towards the objective.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zoo_search.partitions.bounds.relaxation import Relaxation
from zoo_search.partitions.bounds.simple import upper_bound
from zoo_search.partitions.problem.definition import PartitionProblem

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
    """

    value: float
    steps: int
    settled: bool


def lagrangian_bound(
    problem: PartitionProblem,
    objective: float,
    seconds: float,
    on_step: Callable[[float, float], None] | None = None,
    steps: int | None = None,
) -> Bound:
    """Return the best bound found within ``seconds``, or earlier when it is settled.

    Args:
        problem: Whose objective is bounded.
        objective: Of a partition that is known; the target of the steps.
        seconds: Wall time to spend.
        on_step: Called after every step with the seconds spent and the best bound.
        steps: Evaluations to spend at most, which no clock decides.
    """
    began = time.perf_counter()
    relaxation = Relaxation(problem)
    prices = relaxation.first_prices()
    best, best_prices, direction = np.inf, prices, np.zeros_like(prices)
    simple = upper_bound(problem)
    length, waited = 1.0, 0
    tolerance = _CLOSE * max(1.0, abs(objective))
    for done in itertools.count(1):
        value, slope = relaxation.evaluate(prices)
        waited += 1
        # Progress is what is more than rounding; a smaller gain is kept, but buys no time.
        if value < best:
            waited = 0 if value < best - tolerance else waited
            best, best_prices = value, prices
        now = time.perf_counter() - began
        if on_step is not None:
            on_step(now, min(best, simple))
        settled = best - objective <= tolerance or length < _SHORTEST
        if settled or now >= seconds or done == steps:
            break
        # A step that is too long throws the prices far off, or leads to and fro across a kink of L.
        # Either way it is shortened for good, and the best prices are taken up again without the
        # memory of earlier slopes. Far off, the slope there says nothing: it is taken anew.
        lost = value > best + 2 * (best - objective) + tolerance
        if waited > _WAIT or lost:
            length, waited = length * _SHORTER, 0
            prices, direction = best_prices, np.zeros_like(direction)
            if not lost:
                continue
            value, slope = relaxation.evaluate(prices)
        # L is piecewise linear: subgradients of neighbouring pieces point to and fro, and their
        # running average along the valley between them. Polyak's step goes as far along it as would
        # bring a linear L down to the objective, which is no more than the minimum; the share
        # ``length`` of that, since the objective may be below the minimum.
        direction = _AVERAGE * direction + (1 - _AVERAGE) * slope
        size = float(direction @ direction)
        if size > 0:
            step = length * max(value - objective, tolerance) / size
            prices = relaxation.on_grid(prices - step * direction)
    return Bound(min(best, simple), done, settled)


def quick_bound(problem: PartitionProblem, objective: float) -> float:
    """Return an upper bound for about a second's work, the same on every machine.

    The steps are so few that a large zoo gets the simple bound.
    """
    blocks = sum(stage.allowed.size for model in problem.lattice for stage in model)
    steps = min(_QUICK_STEPS, _QUICK_ENTRIES // (blocks * len(problem.blocks.start)))
    if steps == 0:
        return upper_bound(problem)
    return lagrangian_bound(problem, objective, np.inf, steps=steps).value
