from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zoo_search.finetune.answers import Answers
from zoo_search.finetune.entries import GivenUp, ProtocolResult, Result, Role, Training
from zoo_search.networks import Recipe
from zoo_search.report.comparison import Right, difference
from zoo_search.report.verdict import _points, verdict
from zoo_search.training.choice import Kept

IMAGES = 1000


def result(name: str, role: Role, *accuracies: float, judged: float = 0.5, **facts: Any) -> Result:
    """A network of some test accuracies, one a training, and one on validation images."""
    trainings = tuple(
        Training(seed, seed, {"full": ProtocolResult(a, 1, 1.0, (), Kept("full", 1, judged, 1.0))})
        for seed, a in enumerate(accuracies)
    )
    told = {"params": 1_000_000, "macs": 1, "scores": {}, "folder": None, **facts}
    return Result(name, role, Recipe.whole(name, 3), trainings=trainings, **told)


def right(*results: Result) -> dict[str, Right]:
    """Which images each gets right: the easiest for it, those of its own first."""
    hard = {r.name: np.random.default_rng(i).permutation(IMAGES) for i, r in enumerate(results)}
    return {
        r.name: np.stack([hard[r.name] < t.last.test_accuracy * IMAGES for t in r.trainings])
        for r in results
    }


def told_of(*results: Result, given_up: tuple[GivenUp, ...] = ()) -> Any:
    return verdict(results, right(*results), IMAGES, given_up)


def test_validation_images_say_which_networks_are_compared() -> None:
    """The best on the test images are others."""
    told = told_of(
        result("r1", "reassembly", 0.99, judged=0.6),
        result("r2", "reassembly", 0.80, judged=0.9),
        result("lite0", "single", 0.70, judged=0.8),
        result("lite1", "single", 0.95, judged=0.7),
    )
    assert told.winner == "r2"
    assert "the best reassembly, r2, gets 80.0% right" in told.text
    assert "the best single model within the same budget, lite0, 70.0%" in told.text


def test_a_reassembly_that_loses_is_reported_so() -> None:
    results = [
        result("r1", "reassembly", 0.80, 0.81, 0.79),
        result("lite0", "single", 0.90, 0.91, 0.89),
        result("dice", "random", 0.70, 0.71, 0.69),
    ]
    told = told_of(*results)
    assert told.against == {"single": "behind", "random": "ahead"}
    assert told.text.startswith(
        "Of 1,000 test images the best reassembly, r1, gets 80.0% right and the best single model "
        "within the same budget, lite0, 90.0%: reassembly loses (-10.0 points; with 95 % "
        "confidence -"
    )
    assert (
        ", 3 trainings each). The best random recipe within it, dice, 70.0%: the search wins ("
        in (told.text)
    )
    gap = difference(*(right(*results)[name] for name in ("r1", "lite0")))
    assert f"confidence {100 * gap.low:+.1f} to {100 * gap.high:+.1f}," in told.text


def test_a_small_lead_is_too_close_to_call_and_no_victory() -> None:
    told = told_of(result("r1", "reassembly", 0.905), result("lite0", "single", 0.90))
    assert told.against == {"single": "level"}
    assert "too close to call (+0.5 points;" in told.text
    assert "one training each, whose own noise is not in it" in told.text


def test_trainings_that_lie_far_apart_make_a_lead_unsure() -> None:
    """Ten points on average, over three trainings of which one is behind."""
    near = [result("r1", "reassembly", 0.90, 0.90, 0.90), result("a", "single", 0.80, 0.80, 0.80)]
    far = [result("r1", "reassembly", 0.99, 0.99, 0.72), result("a", "single", 0.80, 0.80, 0.80)]
    assert told_of(*near).against == {"single": "ahead"}
    assert told_of(*far).against == {"single": "level"}


def test_an_equal_score_is_no_victory() -> None:
    same = [result("r1", "reassembly", 0.9), result("lite0", "single", 0.9)]
    told = verdict(same, dict.fromkeys(("r1", "lite0"), np.ones((1, 9), dtype=bool)), 9)
    assert told.against == {"single": "level"}


def test_without_baselines_nothing_is_claimed() -> None:
    told = told_of(result("r1", "reassembly", 0.9))
    assert told.against == {}
    assert told.text == "Of 1,000 test images the best reassembly, r1, gets 90.0% right."


def test_without_predictions_nothing_is_claimed() -> None:
    told = verdict([result("r1", "reassembly", 0.9), result("a", "single", 0.5)], {}, 100)
    assert told.against == {}
    assert "a, 50.0%: +40.0 points, and nothing to tell how sure that is." in told.text


def test_no_reassembly_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="no reassembly"):
        told_of(result("lite0", "single", 0.9))


def test_plain_models_and_changed_winners_are_told_and_win_nothing() -> None:
    told = told_of(
        result("r1", "reassembly", 0.90),
        result("b0", "plain", 0.80, params=4_020_000),
        result("wider", "variant", 0.99, of="r1", params=3_680_000, judged=0.99),
    )
    assert told.winner == "r1"
    assert "the best plain model, b0 (4.02 M parameters), 80.0%: reassembly wins (+1" in told.text
    assert "Changed into wider (3.68 M parameters), r1 goes from 90.0% to 99.0% (+9" in told.text
    assert told.against == {"plain": "ahead"}


def lost(name: str, role: Role) -> GivenUp:
    return GivenUp(name, role, "The training diverged: the loss is nan in epoch 2.")


def test_baselines_that_came_to_no_end_are_named_and_not_beaten() -> None:
    gone = (lost("lite0", "single"), lost("lite1", "single"), lost("dice", "random"))
    told = told_of(result("r1", "reassembly", 0.9), given_up=gone)
    assert told.against == {}
    assert (
        "There is no comparison with the best single model within the same budget: the training of "
        "lite0, lite1 came to no end. There is no comparison with the best random recipe within "
        "it: the training of dice came to no end."
    ) in told.text
    assert told.text.startswith("Of 1,000 test images the best reassembly, r1, gets 90.0% right.")


@pytest.mark.parametrize(
    ("theirs", "against", "said"),
    [
        (0.80, {}, "no victory, since not all came to an end (+"),
        (0.90, {"single": "level"}, "too close to call ("),
        (0.99, {"single": "behind"}, "reassembly loses (-"),
    ],
)
def test_the_best_of_some_single_models_may_be_the_one_that_came_to_no_end(
    theirs: float, against: dict[str, str], said: str
) -> None:
    results = [result("r1", "reassembly", 0.9), result("lite0", "single", theirs)]
    told = told_of(*results, given_up=(lost("lite1", "single"),))
    assert told.against == against
    assert f"that came to an end (lite1 did not), lite0, {theirs:.1%}: {said}" in told.text


def test_other_networks_that_came_to_no_end_are_named() -> None:
    gone = (lost("r1", "reassembly"), lost("larger", "variant"))
    told = told_of(result("r2", "reassembly", 0.9), given_up=gone)
    assert told.winner == "r2"
    assert told.text.endswith(" Besides, the training of r1, larger came to no end.")


def test_a_changed_winner_of_a_network_that_is_not_there_is_told_alone() -> None:
    wider = result("wider", "variant", 0.95, of="r2", params=3_680_000)
    told = told_of(result("r1", "reassembly", 0.9), wider, given_up=(lost("r2", "reassembly"),))
    assert (
        "wider (3.68 M parameters), r2 changed, reaches 95.0%; there is no r2 to compare it with."
    ) in told.text


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.0123, "+1.2"), (-0.0004, "-0.04"), (0.0004, "+0.04"), (0.0, "+0.0"), (-0.2, "-20.0")],
)
def test_on_which_side_of_zero_a_bound_lies_is_told(share: float, told: str) -> None:
    assert _points(share) == told


def test_a_network_with_fewer_trainings_is_compared_over_those_of_both() -> None:
    results = [result("r1", "reassembly", 0.9, 0.8, 0.7), result("a", "single", 0.85)]
    seen = right(*results)
    told = verdict(results, seen, IMAGES)
    gap = difference(seen["r1"][:1], seen["a"])
    assert f"confidence {_points(gap.low)} to {_points(gap.high)}, one training each" in told.text


def test_what_was_trained_again_is_not_compared_with_what_was_not() -> None:
    ours, theirs = result("r1", "reassembly", 0.9), result("b0", "plain", 0.5)
    again = replace(ours, retrained=ours.trainings)
    told = verdict([again, theirs], right(ours, theirs), IMAGES)
    assert told.against == {}
    assert "nothing to tell how sure that is" in told.text


def test_the_metric_that_chose_is_named_and_compared_by() -> None:
    """Eighty images of one class, twenty of the other: the lazy network is right more often."""
    labels = np.array([0] * 80 + [1] * 20)
    lazy = np.zeros((1, 100), dtype=np.int64)
    fair = np.where(np.arange(100) % 4 == 0, 1 - labels, labels)[None]
    results = [result("r1", "reassembly", 0.75), result("lite0", "single", 0.8)]
    answers = Answers(labels, {"r1": fair, "lite0": lazy})
    told = verdict(results, answers.right, 100, metric="balanced_accuracy", answers=answers)
    assert told.against == {"single": "ahead"}
    assert told.text.startswith(
        "Chosen by balanced accuracy on the validation images, the best reassembly, r1, reaches a "
        "balanced accuracy of 75.0% on 100 test images and the best single model within the same "
        "budget, lite0, 50.0%: reassembly wins (+25.0 points; with 95 % confidence +"
    )
    assert verdict(results, answers.right, 100).against == {"single": "level"}
