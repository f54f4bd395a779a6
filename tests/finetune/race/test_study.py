"""Rounds of a race: what is asked for next, what is known already, and who is left."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import Setting, make_task

from zoo_search.core.errors import UserError
from zoo_search.core.identity import fingerprint
from zoo_search.core.store import RunStore
from zoo_search.finetune.race.halving import Leg
from zoo_search.finetune.race.records import Record, forget_others, write_record
from zoo_search.finetune.race.rounds import Racer
from zoo_search.finetune.race.study import Course, Race
from zoo_search.finetune.tasks import TrainingTask, Values

END = 4  # epochs of both protocols of make_task


def wrong_of(leg: Leg, task: TrainingTask) -> float:
    """How much a network of a made-up world gets wrong: better, the farther it is trained.

    A rate of twice the schedule's suits all of them best.
    """
    base = int(fingerprint(leg.key[:2])[:4], 16) / 2**16
    off = abs(task.schedule.lr_full / 2e-3 - 2.0) / 10
    return min(1.0, 0.1 + base / (2 + leg.until) + off)


class Field:
    """Networks, and the legs that were run."""

    def __init__(self, setting: Setting, **kinds: int) -> None:
        self.setting = setting
        self.racers = [self.racer(kind, n) for kind, count in kinds.items() for n in range(count)]
        self.retried: list[tuple[str, Values]] = []
        self.told: list[list[tuple[str, int, float]]] = []
        self.began: list[Sequence[Racer]] = []

    def racer(self, kind: str, number: int, *, stays: bool = False) -> Racer:
        key = f"{number:02d}{kind}"
        task = make_task(self.setting, macs=10 + number, key=key)
        return Racer(f"{kind} {number}", kind, replace(task, name=f"{kind} {number}"), stays)

    def retry(self, racer: Racer, values: Values) -> TrainingTask:
        self.retried.append((racer.name, values))
        schedule = values.put_into(racer.task.schedule, "full")
        key = f"{racer.task.key[:2]}try{values}{racer.kind}"
        return replace(racer.task, key=key, schedule=schedule, like=racer.task.key)

    def course(self, **changes: Any) -> Course:
        return Course(**{"winners": 2, "tries": 1, "seed": 0, "retry": self.retry, **changes})


def answer(race: Race, leg: Leg, store: RunStore, seconds: float = 1.0) -> str:
    record = Record(1 - wrong_of(leg, race.task(leg)), 0.5, seconds)
    write_record(store, leg, record)
    return json.dumps(asdict(record))


def run(
    race: Race,
    store: RunStore,
    lanes: int = 1,
    seed: int = 0,
    legs: int | None = None,
    told: Callable[[Leg], None] = lambda leg: None,
) -> list[Leg]:
    """Run a race on so many workers that end in a random order; stop after so many legs."""
    draw, under_way, made = random.Random(seed), list[Leg](), list[Leg]()
    while legs is None or len(made) < legs:
        while len(under_way) < lanes and (leg := race.ask()) is not None:
            under_way.append(leg)
        if not under_way:
            break
        leg = under_way.pop(draw.randrange(len(under_way)))
        made.append(leg)
        told(leg)
        race.tell(leg, answer(race, leg, store))
    return made


def ends(race: Race) -> dict[str, list[tuple[str, str]]]:
    return {
        kind: [(one.racer.name, one.task.key) for one in race.ended(kind)]
        for kind in ("reassembly", "single", "random")
    }


@pytest.mark.parametrize("tries", [1, 3])
def test_a_race_ends_alike_on_any_number_of_workers(
    setting: Setting, tmp_path: Path, tries: int
) -> None:
    found = []
    for lanes in (1, 2, 5):
        field = Field(setting, reassembly=7, single=3, random=2)
        race, store = Race(field.racers, field.course(tries=tries), RunStore(tmp_path)), None
        store = RunStore(tmp_path / f"{lanes}")
        race = Race(field.racers, field.course(tries=tries), store)
        made = run(race, store, lanes, seed=lanes)
        found.append((ends(race), sorted(made, key=str), field.retried))
        assert race.ask() is None
        assert race.expected[0] == len(made)
    assert found[0] == found[1] == found[2]
    names = [name for name, _ in found[0][0]["reassembly"]]
    base = sorted(range(7), key=lambda n: int(fingerprint(f"{n:02d}")[:4], 16))
    assert set(names[:2]) == {f"reassembly {n}" for n in base[:2]}


def test_each_network_that_is_ahead_is_tried_with_other_values(
    setting: Setting, tmp_path: Path
) -> None:
    field, store = Field(setting, reassembly=7, single=2, random=2), RunStore(tmp_path)
    race = Race(field.racers, field.course(tries=6), store)
    made = run(race, store)
    per_network = [name for name, _ in field.retried]
    assert len(per_network) == 5 * 6
    assert all(per_network.count(name) == 5 for name in per_network)
    assert len({values for _, values in field.retried}) == 30
    # The best training of each network counts, and of each network one.
    for kind in ("reassembly", "single", "random"):
        found = race.ended(kind)
        assert len({one.racer.name for one in found}) == len(found) == 2
        for one in found:
            own = [t for t in race.tries if t.racer.name == one.racer.name]
            wrong = {t.task.key: wrong_of(Leg(t.task.key, END), t.task) for t in own}
            assert wrong[one.task.key] == min(wrong.values())
    assert any(one.values is not None for one in race.ended("reassembly"))
    # Tries begin at the end of FROZEN-TUNING, and that is what they are counted as.
    tried = [leg for leg in made if "try" in leg.key]
    assert all(leg.until == END for leg in tried)
    assert race.work(tried[0]) == race.task(tried[0]).macs * 2


@pytest.mark.parametrize("after", [1, 4, 11, 14])
def test_one_that_was_killed_repeats_nothing(setting: Setting, tmp_path: Path, after: int) -> None:
    field = Field(setting, reassembly=7, single=2, random=2)
    whole = RunStore(tmp_path / "whole")
    race = Race(field.racers, field.course(tries=2), whole)
    expected, all_legs = None, run(race, whole, 2)
    expected = ends(race)
    store = RunStore(tmp_path / "killed")
    field = Field(setting, reassembly=7, single=2, random=2)
    before = run(Race(field.racers, field.course(tries=2), store), store, 2, legs=after)
    field = Field(setting, reassembly=7, single=2, random=2)
    race = Race(field.racers, field.course(tries=2), store)
    rest = run(race, store, 2, seed=1)
    assert not set(before) & set(rest)
    assert set(before) | set(rest) == set(all_legs)
    assert ends(race) == expected
    forget_others(store, race.keys)
    again = Race(field.racers, field.course(tries=2), store)
    assert run(again, store) == []
    assert ends(again) == expected


def test_what_diverges_is_out_and_what_has_to_be_mended_ends_the_race(
    setting: Setting, tmp_path: Path
) -> None:
    field, store = Field(setting, reassembly=3, single=2, random=1), RunStore(tmp_path)
    race = Race(field.racers, field.course(), store)
    lost = json.dumps({"reason": "the loss is nan", "diverged": True})
    first = race.ask()
    assert first is not None
    race.tell(first, lost)
    run(race, store)
    assert race.failures[first.key].reason == "the loss is nan"
    assert first.key not in {key for _, key in ends(race)["reassembly"]}
    assert len(ends(race)["reassembly"]) == 2
    for text in (json.dumps({"reason": "the disk is full", "diverged": False}), None):
        race = Race(field.racers, field.course(), RunStore(tmp_path / "other"))
        leg = race.ask()
        assert leg is not None
        race.tell(leg, text)
        assert race.ask() is None
        with pytest.raises(UserError, match=r"reassembly 0: the (disk is full|worker .* died)"):
            race.ended("reassembly")


class Clock:
    """Time that passes with the legs."""

    def __init__(self, limit: float) -> None:
        self.now, self.limit = 0.0, limit

    def time_for(self, seconds: float) -> bool:
        return self.now + seconds < self.limit

    def pass_by(self, leg: Leg) -> None:
        self.now += 1.0


def timed(
    field: Field,
    store: RunStore,
    limit: float,
    more: list[Sequence[Racer]],
    legs: int | None = None,
) -> tuple[Race, list[Leg], Clock]:
    clock = Clock(limit)
    course = field.course(
        more=lambda: more.pop(0) if more else (), timed=True, time_for=clock.time_for
    )
    race = Race(field.racers, course, store)
    return race, run(race, store, legs=legs, told=clock.pass_by), clock


def test_time_is_filled_with_networks_and_values_in_turn(setting: Setting, tmp_path: Path) -> None:
    def field() -> tuple[Field, list[Sequence[Racer]]]:
        made = Field(setting, reassembly=4, single=2, random=2)
        more = [[made.racer("reassembly", 10 * n + k) for k in range(4)] for n in (1, 2, 3)]
        return made, more  # type: ignore[return-value]

    found = {}
    for limit in (0.0, 40.0, 80.0, 1000.0):
        one, more = field()
        _, made, clock = timed(one, RunStore(tmp_path / str(limit)), limit, more)
        found[limit] = len(made)
        assert clock.now == len(made)
    assert found[0.0] < 20
    # How long a round takes is an estimate.
    assert all(0.7 * limit < found[limit] < 1.1 * limit for limit in (40.0, 80.0, 1000.0))
    one, more = field()
    race, made, _ = timed(one, RunStore(tmp_path / "none"), 0.0, more)
    plain = Race(one.racers, one.course(), RunStore(tmp_path / "plain"))
    assert run(plain, RunStore(tmp_path / "plain")) == made
    # The first round is run whole, however little time there is; then what was begun goes on.
    one, more = field()
    store = RunStore(tmp_path / "killed")
    _, before, _ = timed(one, store, 80.0, more, legs=30)
    one, more = field()
    race, rest, _ = timed(one, store, 0.0, more)
    assert not set(before) & set(rest)
    assert len(before) == 30
    assert race.ended("reassembly")


def test_the_work_after_the_race_is_kept_free(setting: Setting, tmp_path: Path) -> None:
    made = []
    for reserve in (0.0, 500.0):
        field, clock = Field(setting, reassembly=4, single=2, random=2), Clock(60.0)
        course = field.course(timed=True, time_for=clock.time_for, reserve=reserve)
        store = RunStore(tmp_path / str(reserve))
        race = Race(field.racers, course, store)
        made.append(len(run(race, store, told=clock.pass_by)))
    assert made[1] < made[0] - 10


def test_a_race_that_was_over_goes_through_the_same_rounds_again(
    setting: Setting, tmp_path: Path
) -> None:
    """However much time there is: only more hours go on (race/ended.json)."""
    field, store = Field(setting, reassembly=4, single=2, random=2), RunStore(tmp_path)
    clock = Clock(60.0)
    course = field.course(timed=True, time_for=clock.time_for)
    race = Race(field.racers, course, store)
    run(race, store, told=clock.pass_by)
    assert race.rounds > 2
    endless = {"timed": True, "time_for": lambda seconds: True}
    again = Race(field.racers, field.course(**endless, rounds=race.rounds), store)
    assert run(again, store, legs=1) == []
    assert ends(again) == ends(race)
    longer = Race(field.racers, field.course(**endless), store)
    assert len(run(longer, store, legs=1)) == 1


def brackets(setting: Setting, place: Path, count: int) -> tuple[Field, Race, RunStore]:
    """A race whose further brackets depend on all that is known of those before."""
    field, store = Field(setting, reassembly=6, single=2, random=2), RunStore(place)
    asked: list[Race] = []

    def more() -> list[Racer]:
        known = sorted((leg.key, leg.until, r.validation_accuracy)
                       for leg, r in asked[0].records.items())  # fmt: skip
        first = int(fingerprint(known)[:2], 16)
        field.told.append(known)
        return [field.racer("reassembly", 20 + (first + n) % 70) for n in range(3)]

    course = field.course(tries=2, more=more, brackets=count, began=field.began.append)
    asked.append(Race(field.racers, course, store))
    return field, asked[0], store


@pytest.mark.parametrize("after", [9, 14, 20, 24])
def test_further_brackets_follow_from_those_before_alone(
    setting: Setting, tmp_path: Path, after: int
) -> None:
    found = []
    for lanes in (1, 2, 5):
        field, race, store = brackets(setting, tmp_path / f"{lanes}", 3)
        made = run(race, store, lanes, seed=lanes)
        found.append((ends(race), sorted(made, key=str), race.brackets, field.told))
        assert race.ask() is None
        assert race.expected[0] == len(made)
        assert list(map(tuple, field.began)) == race.brackets[1:]
        assert [len(racers) for racers in race.brackets] == [10, 3, 3]
        # All of the brackets before were heard, and each has its winners at the end.
        assert [len(known) for known in field.told] == sorted(len(known) for known in field.told)
        for known, racers in zip(field.told, race.brackets, strict=False):
            assert {key for key, _, _ in known} >= {racer.task.key for racer in racers}
            ended = [key for key, until, _ in known if until == END]
            assert len(set(ended) & {racer.task.key for racer in racers}) >= 2
    assert found[0] == found[1] == found[2]
    field, race, store = brackets(setting, tmp_path / "killed", 3)
    before = run(race, store, 2, legs=after)
    field, race, _ = brackets(setting, tmp_path / "killed", 3)
    rest = run(race, store, 2, seed=1)
    assert not set(before) & set(rest)
    assert (ends(race), sorted({*before, *rest}, key=str), race.brackets, field.told) == found[0]


def test_brackets_end_when_there_are_no_more_networks(setting: Setting, tmp_path: Path) -> None:
    asked = []

    def more() -> list[Racer]:
        asked.append(True)
        return []

    field, store = Field(setting, reassembly=4, single=2), RunStore(tmp_path)
    race = Race(field.racers, field.course(brackets=3, tries=2, more=more), store)
    run(race, store)
    assert len(race.brackets) == 1
    assert len(asked) == 1
    assert race.rounds == 2
