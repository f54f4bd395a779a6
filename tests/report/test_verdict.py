from __future__ import annotations

from typing import Any

import pytest

from zoo_search.report.verdict import final_accuracy, verdict


def result(name: str, role: str, frozen: float, full: float) -> dict[str, Any]:
    protocols = {"frozen": {"test_accuracy": frozen}, "full": {"test_accuracy": full}}
    return {"name": name, "role": role, "protocols": protocols}


def test_the_last_protocol_decides() -> None:
    assert final_accuracy(result("a", "reassembly", 0.9, 0.7)) == 0.7


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
    wider = result("wider", "variant", 0, 0.99) | {"of": "r1", "params": 3_680_000}
    same = result("same", "variant", 0, 0.905) | {"of": "r1", "params": 1_000_000}
    told = verdict(
        [
            result("r1", "reassembly", 0, 0.90),
            result("b0", "plain", 0, 0.80) | {"params": 4_020_000},
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
