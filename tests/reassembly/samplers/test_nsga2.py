"""NSGA-II against a uniform sample."""

from __future__ import annotations

import numpy as np
from reassembly.samplers.proposing import propose

from zoo_search.networks import Recipe


def test_nsga2_covers_more_of_score_against_cost_than_a_uniform_sample(wide, scores):
    """Area that the front dominates, from the least score and the greatest cost."""
    floor = min(scores.values())
    ceiling = max(wide.cost(r).macs for r in wide.enumerate())

    def area(recipes: list[Recipe]) -> float:
        total, best = 0.0, floor
        points = sorted((wide.cost(r).macs, scores[r.key]) for r in recipes)
        for macs, score in points:
            if score > best:
                total += (score - best) * (ceiling - macs)
                best = score
        return total

    found = {
        name: np.mean([area(propose(name, wide, scores, seed, 80)) for seed in range(10)])
        for name in ("random", "nsga2")
    }
    assert found["random"] < found["nsga2"] <= area(wide.enumerate())
