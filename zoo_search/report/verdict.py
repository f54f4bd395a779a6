"""Whether reassembly paid: the winner against the best single model and the best random recipe.

Which network stands for its kind was decided by validation images
(:func:`zoo_search.finetune.entries.best`), before any test label was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from zoo_search.core.errors import some
from zoo_search.finetune.entries import GivenUp, Result, Role, best
from zoo_search.report.comparison import Estimate, Right, difference

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
) -> Verdict:
    """Compare the best reassembly with the baselines, by test accuracy after the last protocol.

    Args:
        results: Of the run.
        right: For each network, by name, which test images each training got right.
        test_images: How many there are.
        given_up: Networks whose training came to no end. A baseline among them is not beaten.

    Raises:
        ValueError: If no entry of ``winners.json`` is a reassembly.
    """
    winner = best(results, "reassembly")
    if winner is None:
        raise ValueError("winners.json holds no reassembly")
    said: list[str] = []
    against: dict[Role, Outcome] = {}
    ours = f"Of {test_images:,} test images the best reassembly, {winner.name}, gets "
    ours += f"{winner.accuracy:.1%} right"
    for role, what in _BASELINES.items():
        other, missing = best(results, role), _names(given_up, role)
        if other is None:
            if missing:
                said.append(f"There is no comparison with {what}: {_no_end(missing)}.")
            continue
        if missing:
            what += f" that came to an end ({_listed(missing)} did not)"
        name = f"{other.name} ({_size(other)})" if role == "plain" else other.name
        theirs = f"{what}, {name}, {other.accuracy:.1%}"
        start = f"{ours} and {theirs}" if not said else f"{theirs[0].upper()}{theirs[1:]}"
        gap = _difference(right, winner, other)
        if gap is not None and not (missing and gap.outcome == "ahead"):
            against[role] = gap.outcome
        said.append(f"{start}: {_outcome(gap, winner, other, *_OUTCOMES[role], bool(missing))}.")
    if not said or not said[0].startswith(ours):
        said.insert(0, f"{ours}.")
    said += [_changed(r, results, right) for r in results if r.role == "variant"]
    others = [*_names(given_up, "reassembly"), *_names(given_up, "variant")]
    if others:
        said.append(f"Besides, {_no_end(others)}.")
    return Verdict(" ".join(said), winner.name, against)


def _outcome(
    gap: Estimate | None, ours: Result, theirs: Result, wins: str, loses: str, missing: bool
) -> str:
    """Say what a difference shows, and how sure that is."""
    if gap is None:
        points = 100 * (ours.accuracy - theirs.accuracy)
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


def _changed(variant: Result, results: Sequence[Result], right: Mapping[str, Right]) -> str:
    """Say what a changed winner gained over the network that it started from."""
    before = next((r for r in results if r.name == variant.of), None)
    if before is None:
        return (
            f"{variant.name} ({_size(variant)}), {variant.of} changed, reaches "
            f"{variant.accuracy:.1%}; there is no {variant.of} to compare it with."
        )
    gap = _difference(right, variant, before)
    sure = "" if gap is None else f" ({_interval(gap)})"
    return (
        f"Changed into {variant.name} ({_size(variant)}), {variant.of} goes from "
        f"{before.accuracy:.1%} to {variant.accuracy:.1%}{sure}."
    )


def _difference(right: Mapping[str, Right], ours: Result, theirs: Result) -> Estimate | None:
    if ours.name not in right or theirs.name not in right:
        return None
    first, second = right[ours.name], right[theirs.name]
    if first.shape[1] != second.shape[1] or bool(ours.retrained) != bool(theirs.retrained):
        return None
    both = min(len(first), len(second))  # the first seeds of both are the same
    return difference(first[:both], second[:both])


def _size(result: Result) -> str:
    return f"{result.params / 1e6:.2f} M parameters"


def _names(given_up: Sequence[GivenUp], role: Role) -> list[str]:
    return [network.name for network in given_up if network.role == role]


def _no_end(names: Sequence[str]) -> str:
    return f"the training of {_listed(names)} came to no end"


def _listed(names: Sequence[str]) -> str:
    return some(names, ", ", " and")
