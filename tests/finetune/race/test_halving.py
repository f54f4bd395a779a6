"""Successive halving, beside a plain simulation of it."""

from __future__ import annotations

import math
import random
from collections import Counter

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
    field = [Runner("best", "k"), Runner("worst", "k", stays=True), Runner("middle", "k")]
    wrong = {"best": 0.0, "middle": 0.5, "worst": 1.0}
    values = {Leg(r.key, s): Judged(wrong[r.key], 0.0) for r in field for s in (1, 2)}
    ended, _ = played(field, (1, 2), 1, values, 0)
    assert [runner.key for runner in ended] == [*["best", "worst", "middle"][:2], "middle"]
    assert [r.key for r in in_order(field, 2, values)] == ["best", "middle", "worst"]


@pytest.mark.parametrize("counts", [{"a": 16, "b": 5, "c": 3}, {"a": 1}, {"a": 7, "b": 2}])
def test_the_work_of_a_bracket_is_known_before(counts: dict[str, int]) -> None:
    field, stops = runners(**counts), (4, 8, 15, 30)
    values = {Leg(r.key, s): Judged(0.0, float(n)) for n, r in enumerate(field) for s in stops}
    _, made = played(field, stops, 3, values, 0)
    before = {stop: max(s for s in (0, *stops) if s < stop) for stop in stops}
    epochs = sum(leg.until - before[leg.until] for leg in made)
    assert epochs_needed(Counter(counts), stops, 3) == (epochs, len(made))
