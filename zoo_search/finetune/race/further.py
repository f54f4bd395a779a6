"""Which candidates race next: by what the race has shown so far, and by the search's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from zoo_search.finetune.entries import Expected, Raced
from zoo_search.finetune.race.apart import apart
from zoo_search.reassembly import Candidate
from zoo_search.reassembly.guide.features import features_of
from zoo_search.reassembly.guide.process import Guide, Measured
from zoo_search.zoo import Zoo

_PLAIN = 2
"""One of so many is taken by the search's score: measured (``docs/benchmarks.md``), it chooses as
well as the guide where it is the probe's, and worse where it is naswot's."""


def next_ones(
    ranked: Sequence[Candidate],
    begun: Sequence[Candidate],
    raced: Sequence[Raced],
    count: int,
    scores: Mapping[str, Mapping[str, float]],
    zoo: Zoo,
    least: float,
) -> list[tuple[Candidate, Expected | None]]:
    """Return further candidates, with what is expected of those that are taken for it.

    One of two is the best by the search's score, the others are those of which the guide
    (:mod:`zoo_search.reassembly.guide`) expects most, a standard deviation added: what is known
    least of may be better than what is known (an upper confidence bound). What is chosen follows
    from the arguments alone.

    Args:
        ranked: Candidates by the search's score, the best first.
        begun: Those that race already.
        raced: What the race has shown: of these, and of single models and random recipes.
        count: Of networks that are wanted.
        scores: Of all networks that the search has scored, by key of the recipe and by proxy.
        zoo: The models that blocks come from.
        least: By how much any two differ (:func:`apart`).
    """
    taken = {candidate.recipe.key for candidate in begun}
    free = [candidate for candidate in ranked if candidate.recipe.key not in taken]
    expected = guess(free, raced, scores, {name: len(zoo[name].graph) for name in zoo})
    plain = count // _PLAIN if expected else count
    first = list(islice(apart(free, zoo, least, begun), plain))
    found: list[tuple[Candidate, Expected | None]] = [(candidate, None) for candidate in first]
    if expected:
        bound = [latent for _, latent in expected]
        order = sorted(range(len(free)), key=lambda place: -bound[place])  # else as they are ranked
        best = apart((free[place] for place in order), zoo, least, [*begun, *first])
        told = {c.recipe.key: one for c, (one, _) in zip(free, expected, strict=True)}
        found += [(c, told[c.recipe.key]) for c in islice(best, count - len(first))]
    return found


def guess(
    free: Sequence[Candidate],
    raced: Sequence[Raced],
    scores: Mapping[str, Mapping[str, float]],
    depths: Mapping[str, int],
) -> list[tuple[Expected, float]]:
    """Return what is expected of candidates, and an upper bound by which to order them.

    Trainings with other values than the schedule's own teach nothing here: only some networks have
    them. None where nothing is known.
    """
    recipes = {c.recipe.key: c.recipe for c in free}
    recipes |= {one.recipe.key: one.recipe for one in raced}
    row = {key: place for place, key in enumerate(recipes)}
    # A network that races as two kinds is one network.
    points = {
        (row[one.recipe.key], point.epochs): point
        for one in raced
        for point in one.seen
        if not point.tuned
    }
    if not points or not free:
        return []
    proxies = sorted({name for key in recipes for name in scores.get(key, ())})
    table = [[scores.get(key, {}).get(p, np.nan) for p in proxies] for key in recipes]
    told = np.array(table, dtype=np.float64).reshape(len(recipes), len(proxies))
    measured = [
        Measured(place, epochs, point.score, point.validation_loss)
        for (place, epochs), point in sorted(points.items(), key=lambda item: item[0])
    ]
    end = max(epochs for _, epochs in points)
    guide = Guide(features_of(list(recipes.values()), depths, told), measured, end)
    (mean, deviation), (accuracy, spread) = guide.latent(), guide.expect()
    return [
        (Expected(round(float(accuracy[n]), 6), round(float(spread[n]), 6)),
         float(mean[n] + deviation[n]))
        for n in range(len(free))
    ]  # fmt: skip
