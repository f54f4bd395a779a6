"""Successive halving: which networks train on, and how far, by what is known of them.

Jamieson and Talwalkar 2016; a bracket of Hyperband (Li et al. 2018, algorithm 1). Networks of a
kind are compared when all of them have come as far: who goes on then depends neither on how many
workers there are nor on who came first, and a run that was killed finds the same ones. The rule
that does not wait (ASHA, Li et al. 2020) lets those that come first go on unseen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

FACTOR = 2
"""One of so many networks goes on; and comes so many times as far."""


@dataclass(frozen=True, order=True)
class Judged:
    """How a network does on the validation images; the smaller, the better.

    Attributes:
        wrong: Share of them that did not get their label; of another metric that chooses, what it
            lacks of 1.
        loss: Mean cross-entropy in nats.
    """

    wrong: float
    loss: float


@dataclass(frozen=True)
class Leg:
    """Part of the way: the training ``key`` until so many epochs, of all protocols, are done."""

    key: str
    until: int


Known = Mapping[Leg, Judged | None]
"""How a training does after a leg; None: it came to no end."""


@dataclass(frozen=True)
class Runner:
    """A network that takes part.

    Attributes:
        key: Of its training.
        kind: Networks of different kinds are not compared.
        stays: It is trained to the end whatever others do.
    """

    key: str
    kind: str
    stays: bool = False


@dataclass(frozen=True)
class State:
    """Where a bracket is.

    Attributes:
        open: Legs of which nothing is known yet; none: it is over.
        ended: Who came to the end and was never left behind.
        stayed: Who was left behind and trained to the end all the same.
        out: Keys of those that are not to be trained any farther.
    """

    open: tuple[Leg, ...]
    ended: tuple[Runner, ...] = ()
    stayed: tuple[Runner, ...] = ()
    out: frozenset[str] = frozenset()


def rungs(epochs: Sequence[int], networks: int, winners: int) -> tuple[int, ...]:
    """Return after how many epochs networks are compared; the last number is the end.

    Each is twice the one before, so that with half as many networks each part of the way costs as
    much. The end of a protocol takes the place of the number that is nearest: an end of
    FROZEN-TUNING says more than what is some epochs before or after it.

    Args:
        epochs: Of the protocols, in order.
        networks: Of the most numerous kind.
        winners: Networks of a kind that come to the end.
    """
    total = sum(epochs)
    halvings = math.ceil(math.log(max(1.0, networks / winners), FACTOR))
    found = {math.ceil(total / FACTOR**number) for number in range(1, halvings + 1)}
    end = 0
    for protocol in epochs[:-1]:
        end += protocol
        found -= set(sorted(found, key=lambda rung: abs(math.log(rung / end)))[:1])
        found.add(end)
    return (*sorted(found - {total}), total)


def state_of(runners: Sequence[Runner], stops: Sequence[int], winners: int, known: Known) -> State:
    """Return what a bracket needs next.

    After each rung half of a kind goes on, but never fewer than ``winners``, and after the last one
    on the way no more: by :class:`Judged`, then in the order of ``runners``. What came to no end is
    out. One that stays is trained on when it is left behind, and takes nobody's place.
    """
    opened: list[Leg] = []
    ended: list[Runner] = []
    stayed: list[Runner] = []
    alive: set[str] = set()
    for kind in dict.fromkeys(runner.kind for runner in runners):
        running, behind = [r for r in runners if r.kind == kind], list[Runner]()
        for number, stop in enumerate(stops):
            missing = [leg for r in (*running, *behind) if (leg := Leg(r.key, stop)) not in known]
            if missing:
                opened += missing
                break
            behind = in_order(behind, stop, known)
            running = [r for r in running if known[Leg(r.key, stop)] is not None]
            if number < len(stops) - 1:
                count = max(winners, math.ceil(len(running) / FACTOR))
                if number == len(stops) - 2:
                    count = winners
                first = {r.key for r in in_order(running, stop, known)[:count]}
                behind += [r for r in running if r.stays and r.key not in first]
                running = [r for r in running if r.key in first]
        else:
            ended += running
            stayed += behind
        alive |= {runner.key for runner in (*running, *behind)}
    out = frozenset({runner.key for runner in runners} - alive)
    return State(tuple(dict.fromkeys(opened)), tuple(ended), tuple(stayed), out)


def in_order(running: Iterable[Runner], stop: int, known: Known) -> list[Runner]:
    """Return those that came as far, the best first."""
    judged = {r.key: found for r in running if (found := known.get(Leg(r.key, stop))) is not None}
    return sorted((r for r in running if r.key in judged), key=lambda runner: judged[runner.key])


def epochs_needed(
    numbers: Mapping[str, int], stops: Sequence[int], winners: int
) -> tuple[int, int]:
    """Return how many epochs, and how many legs, brackets of so many networks of each kind take."""
    epochs = legs = 0
    for number in numbers.values():
        before = 0
        for place, stop in enumerate(stops):
            epochs += number * (stop - before)
            legs += number
            before = stop
            number = min(number, max(winners, math.ceil(number / FACTOR)))
            if place == len(stops) - 2:
                number = min(number, winners)
    return epochs, legs
