"""The race of a run: its rounds, what is asked for next, and who is left in the end.

What comes next follows from what is known and from the seed, and is asked for when all of the
rounds before has been heard; only whether there is time for one more round, the clock says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.finetune.race.halving import Judged, Leg, Runner, in_order, rungs
from zoo_search.finetune.race.records import Record, read_record
from zoo_search.finetune.race.rounds import Bracket, Racer, Try, Wave, own_work
from zoo_search.finetune.tasks import TrainingTask, Values
from zoo_search.finetune.trained import Failure


@dataclass(frozen=True)
class Course:
    """How a race is run.

    Attributes:
        winners: Networks of a kind that are trained to the end in a bracket.
        tries: Trainings to the end of each network that is ahead.
        seed: Of what is proposed.
        retry: Makes a racer's training with other values.
        more: Gives the networks of another bracket, by all that is known of those before; none:
            there are no more.
        brackets: So many are run whole, however little time there is.
        began: Hears of the networks of another bracket when they begin.
        reserve: Work that comes after the race, in multiply-adds of an image times epochs.
        rounds: At most so many; None: as many as there are.
        timed: Whether the race goes on while there is time.
        time_for: Says whether there are so many seconds left.
    """

    winners: int
    tries: int
    seed: int
    retry: Callable[[Racer, Values], TrainingTask]
    more: Callable[[], Sequence[Racer]] = lambda: ()
    brackets: int = 1
    began: Callable[[Sequence[Racer]], None] = lambda racers: None
    reserve: float = 0.0
    rounds: int | None = None
    timed: bool = False
    time_for: Callable[[float], bool] = lambda seconds: False


class Race:
    """Says which leg comes next, and hears what it gave; a :class:`cluster.experiment.Study`.

    What lies in the run directory is known from the start.
    """

    def __init__(self, racers: Sequence[Racer], course: Course, store: RunStore) -> None:
        self._course, self._store = course, store
        self._tasks: dict[str, TrainingTask] = {}
        self._known: dict[Leg, Judged | None] = {}
        self.records: dict[Leg, Record] = {}
        self.failures: dict[str, Failure] = {}
        self._under_way: set[Leg] = set()
        self._looked_for: set[Leg] = set()  # in the run directory
        self._rounds: list[Bracket | Wave] = []
        self.tries: list[Try] = []
        self.listeners: list[Callable[[Leg], None]] = []
        """Hear of each leg that has come to its end."""
        self.fault: str | None = None
        """What a user has to mend before the race can go on."""
        self._more: list[Racer] = []  # assembled already, but there was no time for them
        self._no_more = False
        self._waves = 0
        self._exhausted = False
        self._own_seconds = 0.0  # of legs that were told to this object
        self.lanes = 1
        self._stops = rungs(
            [racers[0].task.schedule.epochs(p) for p in racers[0].task.protocols],
            max(Counter(racer.kind for racer in racers).values()),
            course.winners,
        )
        self._begin(racers)

    @property
    def brackets(self) -> list[Sequence[Racer]]:
        """The networks that took part, bracket by bracket."""
        return [each.racers for each in self._rounds if isinstance(each, Bracket)]

    @property
    def racers(self) -> list[Racer]:
        """All networks that took part, in the order in which they came."""
        return [racer for racers in self.brackets for racer in racers]

    @property
    def keys(self) -> list[str]:
        """The keys of all trainings."""
        return list(self._tasks)

    def task(self, leg: Leg) -> TrainingTask:
        """Return whose leg it is."""
        return self._tasks[leg.key]

    def work(self, leg: Leg) -> float:
        """Return how much a leg is: multiply-adds of an image times epochs."""
        task = self._tasks[leg.key]
        if task.like is not None:
            return own_work(task)
        before = max((stop for stop in (0, *self._stops) if stop < leg.until), default=0)
        return task.macs * (leg.until - before)

    @property
    def expected(self) -> tuple[int, float]:
        """How many legs there are in all rounds so far, and how much work."""
        *ended, last = self._rounds
        before = {key for each in ended for key in each.trainings}
        made = [leg for leg in {*self._known, *self._under_way} if leg.key in before]
        legs, work = last.size()
        return len(made) + legs, sum(map(self.work, made)) + work

    def ask(self) -> Leg | None:
        """Return the next leg; None: there is none, unless those under way bring more."""
        while self.fault is None:
            waiting = [leg for leg in self._open() if leg not in self._under_way]
            if not all(leg in self._looked_for for leg in waiting):
                for leg in waiting:
                    if (record := read_record(self._store, leg)) is not None:
                        self._hear(leg, record)
                self._looked_for |= set(waiting)
                continue
            if waiting:
                self._under_way.add(waiting[0])
                return waiting[0]
            if self._under_way:
                return None
            if not self._open() and not self._next_round():
                return None
        return None

    def tell(self, asked: Leg, answer: str | None) -> None:
        """Hear what a leg gave."""
        self._under_way.discard(asked)
        if answer is None:
            found: Record | Failure = Failure("the worker that trained it died, three times", False)
        else:
            facts = json.loads(answer)
            found = Failure(**facts) if "reason" in facts else Record(**facts)
        if isinstance(found, Failure) and not found.diverged:
            self.fault = f"{self._tasks[asked.key].name}: {found.reason}"
            return
        if isinstance(found, Record):
            self._own_seconds += found.seconds
        self._hear(asked, found)
        for listener in self.listeners:
            listener(asked)

    @property
    def rounds(self) -> int:
        """How many there were."""
        return len(self._rounds)

    @property
    def out(self) -> frozenset[str]:
        """Keys of trainings of the round that is under way which go no farther."""
        return self._rounds[-1].state(self._known).out

    def stayed(self, kind: str) -> list[Try]:
        """Return those of a kind that were left behind and trained to the end all the same."""
        return [
            Try(racer, racer.task)
            for each in self._rounds
            if isinstance(each, Bracket)
            for racer in each.those(each.state(self._known).stayed)
            if racer.kind == kind
        ]

    def ended(self, kind: str) -> list[Try]:
        """Return the best training of each network of a kind that came to the end, the best first.

        Those that were left behind on the way are not among them.

        Raises:
            UserError: If something has to be mended first.
        """
        if self.fault is not None:
            raise UserError(self.fault)
        found: dict[str, Try] = {}
        for one in self._judged(self.tries):
            found.setdefault(one.racer.name, one)
        return [one for one in found.values() if one.racer.kind == kind]

    def _judged(self, tries: Sequence[Try]) -> list[Try]:
        by_key = {one.task.key: one for one in tries}
        runners = [Runner(key, one.racer.kind) for key, one in by_key.items()]
        ranked = in_order(runners, self._stops[-1], self._known)
        order = {runner.key: place for place, runner in enumerate(ranked)}
        there = [one for one in tries if one.task.key in order]
        return sorted(there, key=lambda one: order[one.task.key])

    def _hear(self, leg: Leg, found: Record | Failure) -> None:
        if isinstance(found, Record):
            self.records[leg], self._known[leg] = found, found.judged
        else:
            self.failures[leg.key], self._known[leg] = found, None

    def _open(self) -> Sequence[Leg]:
        return self._rounds[-1].state(self._known).open

    def _begin(self, racers: Sequence[Racer]) -> None:
        self._tasks |= {racer.task.key: racer.task for racer in racers}
        self._rounds.append(Bracket(tuple(racers), self._stops, self._course.winners))

    def _next_round(self) -> bool:
        """Begin another round, if there is to be one.

        After the brackets that are asked for in any case, and the waves, a bracket and a wave in
        turn.
        """
        if self._exhausted:
            return False
        last = self._rounds[-1]
        if isinstance(last, Bracket):
            self.tries += [Try(racer, racer.task) for racer in last.ended(self._known)]
        begun = len(self._rounds) != self._course.rounds and (
            (len(self.brackets) < self._course.brackets and self._begin_more())
            or (self._waves + 1 < self._course.tries and self._begin_wave())
            or (self._course.timed and isinstance(last, Wave) and self._begin_more(if_time=True))
            or (self._course.timed and self._begin_wave(if_time=True))
        )
        self._exhausted = not begun
        return begun

    def _begin_more(self, *, if_time: bool = False) -> bool:
        """Let further networks begin, if there are any, and time, or they have begun before."""
        if not self._more and not self._no_more:
            self._more = list(self._course.more())
            self._no_more = not self._more
        if not self._more:
            return False
        if if_time:
            bracket = Bracket(tuple(self._more), self._stops, self._course.winners)
            first = [Leg(racer.task.key, self._stops[0]) for racer in self._more]
            longest = max(racer.task.macs * racer.task.epochs for racer in self._more)
            if not self._begun(first) and not self._time_for(bracket.size()[1], longest):
                return False
        self._course.began(self._more)
        self._begin(self._more)
        self._more = []
        return True

    def _begin_wave(self, *, if_time: bool = False) -> bool:
        """Try other values with the networks that are ahead."""
        kinds = dict.fromkeys(one.racer.kind for one in self.tries)
        ahead = [one for kind in kinds for one in self.ended(kind)[: self._course.winners]]
        if not ahead:
            return False
        racers = list({one.racer.task.key: one.racer for one in ahead}.values())
        from zoo_search.finetune.race.proposals import propose  # not without need: Optuna

        values = propose(self._gains(), len(racers), self._course.seed)
        retried = {
            racer.task.key: (self._course.retry(racer, value), value)
            for racer, value in zip(racers, values, strict=True)
        }
        # One network may race as two kinds.
        tries = [Try(one.racer, *retried[one.racer.task.key]) for one in ahead]
        legs = [Leg(task.key, self._stops[-1]) for task, _ in retried.values()]
        work = [own_work(task) for task, _ in retried.values()]
        if if_time and not self._begun(legs) and not self._time_for(sum(work), max(work)):
            return False
        self._tasks |= {one.task.key: one.task for one in tries}
        self._rounds.append(Wave(tuple(tries), self._stops[-1]))
        self.tries += tries
        self._waves += 1
        return True

    def _begun(self, legs: Sequence[Leg]) -> bool:
        return any(read_record(self._store, leg) is not None for leg in legs)

    def _gains(self) -> list[tuple[Values, float]]:
        """Return what was tried, and how much better the network did than with own values."""
        end = self._stops[-1]
        found = []
        for one in self.tries:
            own = self._known.get(Leg(one.racer.task.key, end))
            mine = self._known.get(Leg(one.task.key, end))
            if own is None:
                continue
            values = one.values or Values(1.0, one.task.schedule.decay(one.task.protocols[-1]))
            # What came to no end is as bad as can be.
            found.append((values, own.wrong - (1.0 if mine is None else mine.wrong)))
        return found

    def _time_for(self, work: float, longest: float) -> bool:
        """Say whether there is time for so much work, and for what comes after the race.

        ``longest`` of it is for one worker alone. What earlier commands have spent counts.
        """
        done = sum(map(self.work, self.records))
        seconds = sum(record.seconds for record in self.records.values())
        spent = seconds - self._own_seconds
        needed = max(work / self.lanes, longest) + self._course.reserve / self.lanes
        return self._course.time_for(spent / self.lanes + needed * seconds / max(done, 1.0))
