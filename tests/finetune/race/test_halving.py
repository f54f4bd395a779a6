"""Successive halving, beside a plain simulation of it."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from zoo_search.finetune.race.halving import (
    Judged,
    Leg,
    Runner,
    epochs_needed,
    in_order,
    rungs,
    state_of,
)
from zoo_search.finetune.race.records import Record


@pytest.mark.parametrize(
    ("epochs", "networks", "winners", "expected"),
    [
        ((15, 15), 16, 3, (4, 8, 15, 30)),  # the end of FROZEN-TUNING is a half of the way
        ((5, 10), 6, 2, (5, 8, 15)),  # 4 is nearest to the end of FROZEN-TUNING
        ((30,), 16, 3, (4, 8, 15, 30)),
        ((15, 15), 3, 3, (15, 30)),  # nothing to halve: where tries may begin, and the end
        ((30,), 3, 3, (30,)),
        ((1, 1), 16, 2, (1, 2)),
        ((2,), 100, 1, (1, 2)),
    ],
)
def test_each_rung_is_twice_as_far_and_a_protocol_ends_at_one(
    epochs: tuple[int, ...], networks: int, winners: int, expected: tuple[int, ...]
) -> None:
    assert rungs(epochs, networks, winners) == expected


def runners(**kinds: int) -> list[Runner]:
    return [Runner(f"{kind}{n}", kind) for kind, count in kinds.items() for n in range(count)]


def played(
    field: list[Runner],
    stops: tuple[int, ...],
    winners: int,
    values: dict[Leg, Judged | None],
    seed: int,
) -> tuple[list[Runner], list[Leg]]:
    """Tell one open leg after another, in a random order; return who ended, and the legs."""
    draw, known, made = random.Random(seed), {}, []
    while legs := state_of(field, stops, winners, known).open:
        leg = draw.choice(legs)
        known[leg] = values[leg]
        made.append(leg)
    return list(state_of(field, stops, winners, known).ended), made


def simulated(
    field: list[Runner], stops: tuple[int, ...], winners: int, values: dict[Leg, Judged | None]
) -> set[str]:
    """Return the keys that end: written down without looking at the code."""
    ended = set()
    for kind in {runner.kind for runner in field}:
        left = [runner.key for runner in field if runner.kind == kind]
        for stop in stops:
            told = [(values[Leg(key, stop)], place, key) for place, key in enumerate(left)]
            good = sorted((v.wrong, v.loss, place, key) for v, place, key in told if v is not None)
            keep = len(good) if stop == stops[-1] else max(winners, math.ceil(len(good) / 2))
            if len(stops) > 1 and stop == stops[-2]:
                keep = winners
            best = {key for *_, key in good[:keep]}
            left = [key for key in left if key in best]
        ended |= set(left)
    return ended


@pytest.mark.parametrize("seed", range(20))
def test_who_ends_is_the_same_in_any_order_of_answers(seed: int) -> None:
    draw = random.Random(seed)
    field = runners(reassembly=draw.randint(1, 17), single=draw.randint(1, 6), random=3)
    stops, winners = rungs((6, 10), 16, 3), draw.randint(1, 3)
    values: dict[Leg, Judged | None] = {
        Leg(runner.key, stop): None
        if draw.random() < 0.1
        else Judged(draw.randint(0, 4) / 4, draw.randint(0, 2) / 2)  # many are equal
        for runner in field
        for stop in stops
    }
    expected = simulated(field, stops, winners, values)
    legs = set()
    for order in range(5):
        ended, made = played(field, stops, winners, values, order)
        assert {runner.key for runner in ended} == expected
        assert len(made) == len(set(made))
        legs.add(frozenset(made))
    assert len(legs) == 1


def test_one_that_stays_takes_no_place_of_another() -> None:
    """With one that stays and without, the others go on alike."""
    names = ["best", "worst", "second", "third", "fourth"]
    wrong = {"best": 0.0, "second": 0.25, "third": 0.5, "fourth": 0.75, "worst": 1.0}
    stops = (1, 2, 4)
    values = {Leg(name, s): Judged(wrong[name], 0.0) for name in names for s in stops}
    ended = {}
    for stays in (False, True):
        field = [Runner(name, "k", stays=stays and name == "worst") for name in names]
        others, made = played(field, stops, 1, values, 0)
        ended[stays] = [runner.key for runner in others]
        state = state_of(field, stops, 1, dict.fromkeys(made) | {leg: values[leg] for leg in made})
        assert [runner.key for runner in state.stayed] == ["worst"] * stays
        assert state.out == set(names) - {"best"} - ({"worst"} if stays else set())
        assert (Leg("worst", 4) in made) is stays
    assert ended[False] == ended[True] == ["best"]
    assert [r.key for r in in_order(field, 2, values)] == sorted(names, key=lambda n: wrong[n])


def test_rungs_that_fall_together_leave_no_more_winners() -> None:
    field, stops = runners(k=16), rungs((1, 1), 16, 3)
    assert stops == (1, 2)
    values = {Leg(r.key, s): Judged(float(n), 0.0) for n, r in enumerate(field) for s in stops}
    ended, _ = played(field, stops, 3, values, 0)
    assert [runner.key for runner in ended] == ["k0", "k1", "k2"]


@pytest.mark.parametrize("counts", [{"a": 16, "b": 5, "c": 3}, {"a": 1}, {"a": 7, "b": 2}])
def test_the_work_of_a_bracket_is_known_before(counts: dict[str, int]) -> None:
    field, stops = runners(**counts), (4, 8, 15, 30)
    values = {Leg(r.key, s): Judged(0.0, float(n)) for n, r in enumerate(field) for s in stops}
    _, made = played(field, stops, 3, values, 0)
    before = {stop: max(s for s in (0, *stops) if s < stop) for stop in stops}
    epochs = sum(leg.until - before[leg.until] for leg in made)
    assert epochs_needed(Counter(counts), stops, 3) == (epochs, len(made))


def test_records_are_ranked_by_the_metric_that_chose() -> None:
    """By accuracy the first network would go on, by the score the second does."""
    field = runners(single=2)
    records = {"single0": Record(0.9, 0.2, 1.0, 0.3), "single1": Record(0.6, 0.4, 1.0, 0.5)}
    for by_score in (True, False):
        known = {
            Leg(key, 4): (record if by_score else replace(record, validation_score=None)).judged
            for key, record in records.items()
        }
        (leg,) = state_of(field, (4, 8), 1, known).open
        assert leg == Leg("single1" if by_score else "single0", 8)
