"""Whether reassembly paid: the winners against the best single model and a random recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo_search.core.errors import some
from zoo_search.finetune.entries import GivenUp, Result, Role

_BASELINES: dict[Role, str] = {
    "single": "the best single model at equal cost",
    "random": "a random recipe at equal cost",
    "plain": "the best plain model",
}


@dataclass(frozen=True)
class Verdict:
    """What a run showed."""

    text: str
    """One or two sentences for a reader who sees nothing else."""
    winner: str
    """Name of the best reassembly."""
    beats_single: bool | None
    """Whether it leads by two standard errors or more; None where there is no single model, or it
    leads and the training of one came to no end."""
    beats_random: bool | None
    """Likewise for the random recipe."""


def best_first(results: Sequence[Result]) -> list[Result]:
    """Return results by test accuracy after the last protocol, best first."""
    return sorted(results, key=lambda result: result.accuracy, reverse=True)


def verdict(
    results: Sequence[Result], test_images: int, given_up: Sequence[GivenUp] = ()
) -> Verdict:
    """Compare the best reassembly with the baselines, by test accuracy after the last protocol.

    The standard error of the difference takes the two accuracies as independent proportions over
    ``test_images`` images (it is on the safe side, since both saw the same images); a lead of less
    than two standard errors is called level. A baseline among ``given_up``, those whose training
    came to no end, is not beaten.

    Raises:
        ValueError: If no entry of ``winners.json`` is a reassembly.
    """
    winner = _best(results, "reassembly")
    if winner is None:
        raise ValueError("winners.json holds no reassembly")
    score = winner.accuracy
    said = [f"The best reassembly, {winner.name}, reaches {score:.1%} on the test images."]
    won: dict[Role, bool] = {}
    for role, what in _BASELINES.items():
        other, missing = _best(results, role), _names(given_up, role)
        if other is not None:
            name = f"{other.name} ({_size(other)})" if role == "plain" else other.name
            ahead, text = _compare(what, name, score, other.accuracy, test_images, missing)
            if not (ahead and missing):
                won[role] = ahead
            said.append(text)
        elif missing:
            said.append(f"There is no comparison with {what}: {_no_end(missing)}.")
    said += [_changed(r, results, test_images) for r in results if r.role == "variant"]
    others = [*_names(given_up, "reassembly"), *_names(given_up, "variant")]
    if others:
        said.append(f"Besides, {_no_end(others)}.")
    return Verdict(" ".join(said), winner.name, won.get("single"), won.get("random"))


def _changed(variant: Result, results: Sequence[Result], images: int) -> str:
    """Say what a changed winner gained over the network that it started from."""
    before = next((r for r in results if r.name == variant.of), None)
    if before is None:
        return (
            f"{variant.name} ({_size(variant)}), {variant.of} changed, reaches "
            f"{variant.accuracy:.1%}; there is no {variant.of} to compare it with."
        )
    old, new = before.accuracy, variant.accuracy
    error = _error(old, new, images)
    noise = ", which is within the noise" if abs(new - old) <= 2 * error else ""
    return (
        f"Changed into {variant.name} ({_size(variant)}), {variant.of} goes from {old:.1%} "
        f"to {new:.1%}{noise}."
    )


def _size(result: Result) -> str:
    return f"{result.params / 1e6:.2f} M parameters"


def _error(ours: float, theirs: float, images: int) -> float:
    """Return the standard error of the difference of two accuracies."""
    return math.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / images)


def _best(results: Sequence[Result], role: Role) -> Result | None:
    return max((r for r in results if r.role == role), key=lambda r: r.accuracy, default=None)


def _names(given_up: Sequence[GivenUp], role: Role) -> list[str]:
    return [network.name for network in given_up if network.role == role]


def _no_end(names: Sequence[str]) -> str:
    return f"the training of {_listed(names)} came to no end"


def _listed(names: Sequence[str]) -> str:
    return some(names, ", ", " and")


def _compare(
    what: str, name: str, ours: float, theirs: float, images: int, missing: Sequence[str]
) -> tuple[bool, str]:
    """Return whether the winner leads, and what there is to say; ``missing`` came to no end."""
    if missing:
        what += f" that came to an end ({_listed(missing)} did not)"
    error, lead = _error(ours, theirs, images), ours - theirs
    if abs(lead) <= 2 * error:
        return False, (
            f"It is level with {what}, {name} with {theirs:.1%}: the difference of "
            f"{100 * lead:+.1f} points is within the noise of {images} images (standard error "
            f"{100 * error:.1f})."
        )
    if lead > 0 and missing:
        return True, (
            f"It leads {what}, {name} with {theirs:.1%}, by {100 * lead:.1f} points, which is no "
            "victory."
        )
    if lead > 0:
        return True, f"It beats {what}, {name} with {theirs:.1%}, by {100 * lead:.1f} points."
    more = f"{-100 * lead:.1f} points more"
    return False, f"It does not beat {what}: {name} reaches {theirs:.1%}, {more}."
