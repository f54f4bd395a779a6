from __future__ import annotations

from typing import Any

import pytest

from zoo_search.finetune.entries import GivenUp, ProtocolResult, Result, Role
from zoo_search.networks import Recipe
from zoo_search.report.verdict import best_first, verdict


def result(name: str, role: Role, frozen: float, full: float, **facts: Any) -> Result:
    protocols = {
        "frozen": ProtocolResult(frozen, 1, 1.0, ()),
        "full": ProtocolResult(full, 1, 1.0, ()),
    }
    told = {"params": 1_000_000, "macs": 1, "scores": {}, "folder": None, **facts}
    return Result(name, role, Recipe.whole(name, 3), protocols=protocols, **told)


def test_the_last_protocol_decides() -> None:
    results = [result("a", "reassembly", 0.9, 0.7), result("b", "reassembly", 0.1, 0.8)]
    assert results[0].accuracy == 0.7
    assert [r.name for r in best_first(results)] == ["b", "a"]


def test_a_reassembly_that_loses_is_reported_so() -> None:
    told = verdict(
        [
            result("r1", "reassembly", 0.5, 0.80),
            result("lite0", "single", 0.5, 0.90),
            result("dice", "random", 0.5, 0.70),
        ],
        test_images=1000,
    )
    assert told.beats_single is False
    assert told.beats_random is True
    assert "does not beat the best single model at equal cost: lite0 reaches 90.0%" in told.text
    assert ", 10.0 points more." in told.text
    assert "beats a random recipe at equal cost, dice with 70.0%, by 10.0 points." in told.text


def test_a_small_lead_is_level_and_no_victory() -> None:
    told = verdict(
        [result("r1", "reassembly", 0, 0.905), result("lite0", "single", 0, 0.90)],
        test_images=1000,
    )
    # sqrt((.905 * .095 + .9 * .1) / 1000) = 0.01327
    assert told.beats_single is False
    assert "level with the best single model" in told.text
    assert "+0.5 points is within the noise of 1000 images (standard error 1.3)." in told.text


def test_an_equal_score_is_no_victory() -> None:
    told = verdict([result("r1", "reassembly", 0, 0.9), result("lite0", "single", 0, 0.9)], 100)
    assert told.beats_single is False
    assert "level with the best single model" in told.text


def test_without_baselines_nothing_is_claimed() -> None:
    told = verdict([result("r1", "reassembly", 0, 0.9)], 100)
    assert told.beats_single is None
    assert told.beats_random is None
    assert "beat" not in told.text


def test_no_reassembly_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="no reassembly"):
        verdict([result("lite0", "single", 0, 0.9)], 100)


def test_plain_models_and_changed_winners_are_told_and_win_nothing() -> None:
    wider = result("wider", "variant", 0, 0.99, of="r1", params=3_680_000)
    same = result("same", "variant", 0, 0.905, of="r1")
    told = verdict(
        [
            result("r1", "reassembly", 0, 0.90),
            result("b0", "plain", 0, 0.80, params=4_020_000),
            wider,
            same,
        ],
        test_images=1000,
    )
    assert told.winner == "r1"
    beaten = "It beats the best plain model, b0 (4.02 M parameters) with 80.0%, by 10.0 points."
    assert beaten in told.text
    assert "Changed into wider (3.68 M parameters), r1 goes from 90.0% to 99.0%." in told.text
    assert "same (1.00 M parameters), r1 goes from 90.0% to 90.5%, which is within" in told.text
    assert told.beats_single is None


def lost(name: str, role: Role) -> GivenUp:
    return GivenUp(name, role, "The training diverged: the loss is nan in epoch 2.")


def test_baselines_that_came_to_no_end_are_named_and_not_beaten() -> None:
    gone = [lost("lite0", "single"), lost("lite1", "single"), lost("dice", "random")]
    told = verdict([result("r1", "reassembly", 0, 0.9)], 1000, gone)
    assert (told.beats_single, told.beats_random) == (None, None)
    assert (
        "There is no comparison with the best single model at equal cost: the training of lite0, "
        "lite1 came to no end. There is no comparison with a random recipe at equal cost: the "
        "training of dice came to no end."
    ) in told.text
    assert "beats" not in told.text


@pytest.mark.parametrize(
    ("theirs", "beats", "said"),
    [
        (0.80, None, "It leads the best single model at equal cost that came to an end (lite1 did "
         "not), lite0 with 80.0%, by 10.0 points, which is no victory."),
        (0.90, False, "level with the best single model at equal cost that came to an end (lite1 "),
        (0.99, False, "(lite1 did not): lite0 reaches 99.0%, 9.0 points more."),
    ],
)  # fmt: skip
def test_the_best_of_some_single_models_may_be_the_one_that_came_to_no_end(
    theirs: float, beats: bool | None, said: str
) -> None:
    results = [result("r1", "reassembly", 0, 0.9), result("lite0", "single", 0, theirs)]
    told = verdict(results, 1000, [lost("lite1", "single")])
    assert told.beats_single is beats
    assert said in told.text
    assert "beats" not in told.text


def test_other_networks_that_came_to_no_end_are_named() -> None:
    gone = [lost("r1", "reassembly"), lost("larger", "variant")]
    told = verdict([result("r2", "reassembly", 0, 0.9)], 1000, gone)
    assert told.winner == "r2"
    assert told.text.endswith(" Besides, the training of r1, larger came to no end.")


def test_a_changed_winner_of_a_network_that_is_not_there_is_told_alone() -> None:
    wider = result("wider", "variant", 0, 0.95, of="r2", params=3_680_000)
    told = verdict([result("r1", "reassembly", 0, 0.9), wider], 1000, [lost("r2", "reassembly")])
    assert (
        "wider (3.68 M parameters), r2 changed, reaches 95.0%; there is no r2 to compare it with."
    ) in told.text
