"""Whether reassembly paid: the winners against the best single model and a random recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Verdict", "final_accuracy", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """What a run showed.

    Attributes:
        text: One or two sentences for a reader who sees nothing else.
        winner: Name of the best reassembly.
        beats_single: Whether it leads by two standard errors or more; None where there is no single
            model to compare with.
        beats_random: Likewise for the random recipe.
    """

    text: str
    winner: str
    beats_single: bool | None
    beats_random: bool | None


def final_accuracy(result: Mapping[str, Any]) -> float:
    """Return the test accuracy after the last protocol that ``result`` went through."""
    return float(list(result["protocols"].values())[-1]["test_accuracy"])


def verdict(results: Sequence[Mapping[str, Any]], test_images: int) -> Verdict:
    """Compare the best reassembly with the baselines, by test accuracy after the last protocol.

    The standard error of the difference takes the two accuracies as independent proportions over
    ``test_images`` images (it is on the safe side, since both saw the same images); a lead of less
    than two standard errors is called level.

    Args:
        results: Entries of ``winners.json``, at least one with the role ``reassembly``.
        test_images: Number of test images behind each accuracy.
    """
    best = {role: _best(results, role) for role in ("reassembly", "single", "random")}
    winner = best["reassembly"]
    if winner is None:
        raise ValueError("winners.json holds no reassembly")
    score = final_accuracy(winner)
    said = [f"The best reassembly, {winner['name']}, reaches {score:.1%} on the test images."]
    won: dict[str, bool | None] = {"single": None, "random": None}
    for role, what in (("single", "the best single model"), ("random", "a random recipe")):
        other = best[role]
        if other is not None:
            theirs, what = final_accuracy(other), f"{what} at equal cost"
            won[role], text = _compare(what, other["name"], score, theirs, test_images)
            said.append(text)
    plain = _best(results, "plain")
    if plain is not None:
        name, theirs = f"{plain['name']} ({_size(plain)})", final_accuracy(plain)
        said.append(_compare("the best plain model", name, score, theirs, test_images)[1])
    said += [_changed(r, results, test_images) for r in results if r["role"] == "variant"]
    return Verdict(" ".join(said), winner["name"], won["single"], won["random"])


def _changed(variant: Mapping[str, Any], results: Sequence[Mapping[str, Any]], images: int) -> str:
    """Say what a changed winner gained over the network that it started from."""
    before = next(r for r in results if r["name"] == variant["of"])
    old, new = final_accuracy(before), final_accuracy(variant)
    error = _error(old, new, images)
    noise = ", which is within the noise" if abs(new - old) <= 2 * error else ""
    return (
        f"Changed into {variant['name']} ({_size(variant)}), {variant['of']} goes from {old:.1%} "
        f"to {new:.1%}{noise}."
    )


def _size(result: Mapping[str, Any]) -> str:
    return f"{result['params'] / 1e6:.2f} M parameters"


def _error(ours: float, theirs: float, images: int) -> float:
    """Return the standard error of the difference of two accuracies."""
    return math.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / images)


def _best(results: Sequence[Mapping[str, Any]], role: str) -> Mapping[str, Any] | None:
    return max((r for r in results if r["role"] == role), key=final_accuracy, default=None)


def _compare(what: str, name: str, ours: float, theirs: float, images: int) -> tuple[bool, str]:
    error, lead = _error(ours, theirs, images), ours - theirs
    if abs(lead) <= 2 * error:
        return False, (
            f"It is level with {what}, {name} with {theirs:.1%}: the difference of "
            f"{100 * lead:+.1f} points is within the noise of {images} images (standard error "
            f"{100 * error:.1f})."
        )
    if lead > 0:
        return True, f"It beats {what}, {name} with {theirs:.1%}, by {100 * lead:.1f} points."
    more = f"{-100 * lead:.1f} points more"
    return False, f"It does not beat {what}: {name} reaches {theirs:.1%}, {more}."
