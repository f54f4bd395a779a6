"""Whether reassembly paid: the winner against the best single model and the best random recipe.

Which network stands for its kind was decided by validation images
(:func:`zoo_search.finetune.entries.best`), before any test label was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo_search.core.errors import some
from zoo_search.finetune.entries import GivenUp, Result, Role, best
from zoo_search.report.comparison import Estimate, Right, difference, estimate
from zoo_search.training.metrics import METRICS, Metric

if TYPE_CHECKING:
    from zoo_search.finetune.answers import Answers

_BASELINES: dict[Role, str] = {
    "single": "the best single model within the same budget",
    "random": "the best random recipe within it",
    "plain": "the best plain model",
}
_OUTCOMES: dict[Role, tuple[str, str]] = {
    "single": ("reassembly wins", "reassembly loses"),
    "random": ("the search wins", "the search loses"),
    "plain": ("reassembly wins", "reassembly loses"),
}
"""What is said of a difference that is clear, on either side."""

Outcome = Literal["ahead", "behind", "level"]


@dataclass(frozen=True)
class Verdict:
    """What a run showed."""

    text: str
    """A few sentences for a reader who sees nothing else."""
    winner: str
    """Name of the best reassembly."""
    against: Mapping[Role, Outcome]
    """Where the winner stands against the best network of a role, with 95 % confidence. A role is
    missing where there is no such network, no predictions to compare, or the winner leads and the
    training of one came to no end."""


def verdict(
    results: Sequence[Result],
    right: Mapping[str, Right],
    test_images: int,
    given_up: Sequence[GivenUp] = (),
    *,
    metric: Metric = "accuracy",
    answers: Answers | None = None,
) -> Verdict:
    """Compare the best reassembly with the baselines, on the test images after the last protocol.

    They are compared by the metric that validation chose by: the sentence names it where it is not
    the accuracy, "so many of the test images right".

    Args:
        results: Of the run.
        right: For each network, by name, which test images each training got right.
        test_images: How many there are.
        given_up: Networks whose training came to no end. A baseline among them is not beaten.
        metric: That validation chose by.
        answers: What networks said of the test images; for other metrics than accuracy.

    Raises:
        ValueError: If no entry of ``winners.json`` is a reassembly.
    """
    winner = best(results, "reassembly")
    if winner is None:
        raise ValueError("winners.json holds no reassembly")
    said: list[str] = []
    against: dict[Role, Outcome] = {}
    by: _Accuracy | _OtherMetric = _Accuracy(right)
    if metric != "accuracy" and answers is not None:
        by = _OtherMetric(metric, answers)
    ours = by.start(winner, test_images)
    for role, what in _BASELINES.items():
        other, missing = best(results, role), _names(given_up, role)
        if other is None:
            if missing:
                said.append(f"There is no comparison with {what}: {_no_end(missing)}.")
            continue
        if missing:
            what += f" that came to an end ({_listed(missing)} did not)"
        name = f"{other.name} ({_size(other)})" if role == "plain" else other.name
        theirs = f"{what}, {name}, {by.value(other):.1%}"
        start = f"{ours} and {theirs}" if not said else f"{theirs[0].upper()}{theirs[1:]}"
        gap = _difference(by, winner, other)
        if gap is not None and not (missing and gap.outcome == "ahead"):
            against[role] = gap.outcome
        words = _OUTCOMES[role]
        said.append(f"{start}: {_outcome(gap, by, winner, other, *words, bool(missing))}.")
    if not said or not said[0].startswith(ours):
        said.insert(0, f"{ours}.")
    said += [_changed(r, results, by) for r in results if r.role == "variant"]
    others = [*_names(given_up, "reassembly"), *_names(given_up, "variant")]
    if others:
        said.append(f"Besides, {_no_end(others)}.")
    return Verdict(" ".join(said), winner.name, against)


@dataclass(frozen=True)
class _Accuracy:
    """Compares networks by the share of test images that get their label."""

    right: Mapping[str, Right]

    def start(self, winner: Result, images: int) -> str:
        return (
            f"Of {images:,} test images the best reassembly, {winner.name}, gets "
            f"{winner.accuracy:.1%} right"
        )

    def value(self, result: Result) -> float:
        return result.accuracy

    def gap(self, ours: Result, theirs: Result) -> Estimate | None:
        if ours.name not in self.right or theirs.name not in self.right:
            return None
        first, second = self.right[ours.name], self.right[theirs.name]
        if first.shape[1] != second.shape[1]:
            return None
        both = min(len(first), len(second))  # the first seeds of both are the same
        return difference(first[:both], second[:both])


@dataclass(frozen=True)
class _OtherMetric:
    """Compares networks by a metric of what each of their trainings said."""

    metric: Metric
    answers: Answers

    def start(self, winner: Result, images: int) -> str:
        name = METRICS[self.metric]
        return (
            f"Chosen by {name} on the validation images, the best reassembly, {winner.name}, "
            f"reaches a {name} of {self.value(winner):.1%} on {images:,} test images"
        )

    def value(self, result: Result) -> float:
        return self.answers.score(result.name, self.metric)

    def gap(self, ours: Result, theirs: Result) -> Estimate | None:
        if not len(self.answers.labels):
            return None
        return estimate(self.answers.differences(self.metric, ours.name, theirs.name))


def _outcome(
    gap: Estimate | None,
    by: _Accuracy | _OtherMetric,
    ours: Result,
    theirs: Result,
    wins: str,
    loses: str,
    missing: bool,
) -> str:
    """Say what a difference shows, and how sure that is."""
    if gap is None:
        points = 100 * (by.value(ours) - by.value(theirs))
        return f"{points:+.1f} points, and nothing to tell how sure that is"
    word = {"ahead": wins, "behind": loses, "level": "too close to call"}[gap.outcome]
    if missing and gap.outcome == "ahead":
        word = "no victory, since not all came to an end"
    return f"{word} ({_interval(gap)})"


def _interval(gap: Estimate) -> str:
    count = f"{gap.trainings} trainings each"
    if gap.trainings == 1:
        count = "one training each, whose own noise is not in it"
    mean, low, high = map(_points, (gap.mean, gap.low, gap.high))
    return f"{mean} points; with 95 % confidence {low} to {high}, {count}"


def _points(share: float) -> str:
    """Return percentage points with their sign; of the smallest, two digits."""
    told = f"{100 * share:+.1f}"
    return f"{100 * share:+.2f}" if told[1:] == "0.0" and share else told


def _changed(variant: Result, results: Sequence[Result], by: _Accuracy | _OtherMetric) -> str:
    """Say what a changed winner gained over the network that it started from."""
    before = next((r for r in results if r.name == variant.of), None)
    if before is None:
        return (
            f"{variant.name} ({_size(variant)}), {variant.of} changed, reaches "
            f"{by.value(variant):.1%}; there is no {variant.of} to compare it with."
        )
    gap = _difference(by, variant, before)
    sure = "" if gap is None else f" ({_interval(gap)})"
    return (
        f"Changed into {variant.name} ({_size(variant)}), {variant.of} goes from "
        f"{by.value(before):.1%} to {by.value(variant):.1%}{sure}."
    )


def _difference(by: _Accuracy | _OtherMetric, ours: Result, theirs: Result) -> Estimate | None:
    if bool(ours.retrained) != bool(theirs.retrained):
        return None
    return by.gap(ours, theirs)


def _size(result: Result) -> str:
    return f"{result.params / 1e6:.2f} M parameters"


def _names(given_up: Sequence[GivenUp], role: Role) -> list[str]:
    return [network.name for network in given_up if network.role == role]


def _no_end(names: Sequence[str]) -> str:
    return f"the training of {_listed(names)} came to no end"


def _listed(names: Sequence[str]) -> str:
    return some(names, ", ", " and")
