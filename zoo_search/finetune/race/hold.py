"""The race of a run: many networks go in, those that go on come out."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from zoo_search.cluster.hosts import Hosts, borrowed
from zoo_search.core.errors import UserError
from zoo_search.core.identity import fingerprint
from zoo_search.core.progress import console
from zoo_search.finetune.advance import forget
from zoo_search.finetune.entries import COMPARED, Entry, GivenUp, Raced, Role, Seen
from zoo_search.finetune.race.halving import Leg
from zoo_search.finetune.race.on_hosts import run_race
from zoo_search.finetune.race.records import FOLDER, forget_others
from zoo_search.finetune.race.rounds import Racer
from zoo_search.finetune.race.study import Course, Race
from zoo_search.finetune.starts import Start, Starts
from zoo_search.finetune.tasks import TrainingTask, Values
from zoo_search.finetune.trained import folder_of
from zoo_search.training.metrics import METRICS, Metric

if TYPE_CHECKING:
    from zoo_search.config import FinetuneConfig, JobConfig
    from zoo_search.core.store import RunStore

_ENDED = f"{FOLDER}/ended.json"
_FEW = 100
"""Validation images: the standard error of an accuracy of 95 % on them is 2 points."""
_END = 60.0
"""Seconds for what comes after the last training: exports, the report."""


@dataclass(frozen=True)
class Outcome:
    """What a race leaves.

    Attributes:
        ahead: Networks that go on, the best of each role first, the finalists with all seeds.
        given_up: What came to no end.
        raced: All that began, and how far they came.
    """

    ahead: Sequence[Start]
    given_up: Sequence[GivenUp]
    raced: Sequence[Raced]


def hold_race(
    began: Sequence[Start],
    starts: Starts,
    job: JobConfig,
    store: RunStore,
    *,
    more: Callable[[Sequence[Raced]], Sequence[Entry]] = lambda raced: (),
    stay: Collection[str] = (),
    deadline: float | None = None,
    hours: float | None = None,
    hosts: Hosts | None = None,
) -> Outcome:
    """Let networks race by the validation images of the first seed.

    Args:
        began: All networks that begin. Where nothing judges them, the first ones of each role go
            on, and nothing is trained.
        more: Gives those of a further bracket, by what the race has shown until then.
        stay: Names of those that are trained to the end in any case.
        deadline: On the clock of :func:`time.monotonic`: until then more is tried.
        hours: That the run has in all.
        hosts: The processes that train; they end with the race.

    Raises:
        UserError: If something has to be mended before the race can go on.
    """
    config = job.finetune
    finalists = finalists_of(config, len(starts.folds[0].validation or ()))
    if began[0].tasks[0].validation is None:
        ahead = [
            start
            for role in COMPARED
            for place, start in enumerate(_of(began, role))
            if place < config.winners or start.entry.name in stay
        ]
        if hosts is not None:
            hosts.close()  # their memory and their GPUs are for those of Ray Train
        if hours is not None:
            console.print(
                f"  no race fills the {hours:g} hours: there are no validation images to judge it. "
                "finetune.validation says how many of the training images are held out for that."
            )
        return Outcome(_with_finalists(ahead, starts, finalists), (), ())
    known = {start.entry.name: start for start in began}

    def further() -> list[Racer]:
        try:
            found = starts.first(more(told()))
        except UserError as error:  # what has been won so far is not lost for it
            console.print(f"  no further networks race: {error}")
            return []
        known.update({start.entry.name: start for start in found})
        return [_racer(start, stay) for start in found]

    def told() -> list[Raced]:
        return [
            _told(racer, race, known, number)
            for number, racers in enumerate(race.brackets, 1)
            for racer in racers
        ]

    def tell(racers: Sequence[Racer]) -> None:
        entries = [known[racer.name].entry for racer in racers]
        console.print(f"  {why_taken(entries, job.search.proxies[0], config.metric)}")

    def retry(racer: Racer, values: Values) -> TrainingTask:
        network, first = known[racer.name].network, starts.seeds[0]
        return starts.task(network, first, 0, starts.protocols, values, racer.task.key)

    # A race that was over goes through the same rounds again, unless it is given more time.
    began_with = fingerprint([start.tasks[0].key for start in began])
    before = store.kept(_ENDED) or {}
    same = before.get("began") == began_with and before["hours"] >= (hours or 0.0)
    rounds = before["rounds"] if same else None
    course = Course(
        config.winners,
        config.tries,
        job.seed,
        retry,
        more=further,
        brackets=config.brackets,
        began=tell,
        reserve=_work_after(began, config, finalists),
        rounds=rounds,
        timed=deadline is not None,
        time_for=lambda seconds: time.monotonic() + seconds + _END < (deadline or 0.0),
    )
    race = Race([_racer(start, stay) for start in began], course, store)
    gone = set[str]()

    def let_go(leg: Leg) -> None:
        for key in race.out - gone:  # their checkpoints are of no use any more
            forget(store, key)
            gone.add(key)

    race.listeners.append(let_go)
    with borrowed(hosts) as own:
        run_race(race, len(began), store, config, job.name, own)
        own.close()
    ended = {role: race.ended(role) for role in COMPARED}
    going_on = [
        one
        for role in COMPARED
        for place, one in enumerate([*ended[role], *race.stayed(role)])
        if place < config.winners or one.racer.stays
    ]
    ahead = [
        replace(known[one.racer.name], tasks=[one.task], values=one.values) for one in going_on
    ]
    store.keep(_ENDED, {"began": began_with, "hours": hours or 0.0, "rounds": race.rounds})
    _tidy(store, race.keys, {one.task.key for one in going_on})
    raced = told()
    given_up = [GivenUp(one.name, one.role, one.reason) for one in raced if one.reason]
    return Outcome(_with_finalists(ahead, starts, finalists), given_up, raced)


def finalists_of(config: FinetuneConfig, judges: int) -> int:
    """Return how many networks of a role are trained with all seeds, each judged on other images.

    Few images say too little of which network is best: then all winners are, and over the seeds
    more images judge them (as in cross-validation).
    """
    if config.finalists is not None:
        return config.finalists
    return config.winners if 0 < judges < _FEW else 1


def _work_after(began: Sequence[Start], config: FinetuneConfig, finalists: int) -> float:
    """Return the work of the trainings after the race, in multiply-adds of an image times epochs.

    That is of the finalists with the other seeds, and of what is trained with all of them.
    """
    others = [*config.plain, *config.variants, *(COMPARED if config.retrain else ())]
    count = finalists * len(COMPARED) * (config.seeds - 1) + len(others) * config.seeds
    return count * began[0].tasks[0].epochs * fmean(start.tasks[0].macs for start in began)


def _tidy(store: RunStore, keys: Sequence[str], wanted: Collection[str]) -> None:
    """Remove what no later step looks for: checkpoints, and weights of those that are left behind.

    Records stay, of the trainings of this race.
    """
    for key in keys:
        forget(store, key)
        if key not in wanted:
            store.remove(folder_of(key))
    forget_others(store, keys)


def _of(starts: Sequence[Start], role: Role) -> list[Start]:
    return [start for start in starts if start.entry.role == role]


def _racer(start: Start, stay: Collection[str]) -> Racer:
    entry = start.entry
    return Racer(entry.name, entry.role, start.tasks[0], entry.name in stay)


def _with_finalists(ahead: Sequence[Start], starts: Starts, count: int) -> list[Start]:
    """Give the first of each role their trainings with the other seeds."""
    finalists = [start for role in COMPARED for start in _of(ahead, role)[:count]]
    whole = dict(zip(map(id, finalists), starts.with_all_seeds(finalists), strict=True))
    return [whole.get(id(start), start) for start in ahead]


def why_taken(entries: Sequence[Entry], proxy: str, metric: Metric = "accuracy") -> str:
    """Return what is said of the networks of a further bracket when they begin."""
    guessed = [(entry.name, entry.expected) for entry in entries if entry.expected is not None]
    why = []
    if plain := len(entries) - len(guessed):
        why.append(f"{plain} taken by {proxy}")
    if guessed:
        name, best = max(guessed, key=lambda one: one[1].validation_accuracy)
        mean = fmean(expected.validation_accuracy for _, expected in guessed)
        what = "of the validation images" if metric == "accuracy" else METRICS[metric]
        why.append(
            f"{len(guessed)} taken by what the race has shown: expected {100 * mean:.1f} % "
            f"{what} on average, {100 * best.validation_accuracy:.1f} ± "
            f"{100 * best.deviation:.1f} % of {name}"
        )
    return f"another {len(entries)} reassemblies race, {', '.join(why)}"


def _told(racer: Racer, race: Race, known: Mapping[str, Start], bracket: int) -> Raced:
    entry = known[racer.name].entry
    tries = [one for one in race.tries if one.racer.name == racer.name and one.values is not None]
    seen = [
        Seen(
            leg.until,
            record.validation_accuracy,
            record.validation_loss,
            values,
            record.validation_score,
        )
        for task, values in [(racer.task, {}), *((t.task, vars(t.values)) for t in tries)]
        for leg, record in sorted(race.records.items(), key=lambda item: item[0].until)
        if leg.key == task.key
    ]
    failure = race.failures.get(racer.task.key)
    reason = failure.reason if failure else ""
    return Raced(
        entry.name, entry.role, entry.recipe, racer.task.macs, tuple(seen), reason, bracket,
        entry.expected,
    )  # fmt: skip
