"""The pictures of a run, by what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from zoo_search.finetune.entries import ProtocolResult, Result, Role, Training
from zoo_search.networks import Recipe
from zoo_search.plots import run
from zoo_search.reassembly import Candidate
from zoo_search.training.snapshot import Epoch


def candidate(number: int, kind: Any, macs: float, score: float) -> Candidate:
    recipe = Recipe.whole(f"m{number}", 3)
    return Candidate(number, recipe, kind, 1, int(macs), {"probe": score}, "complete", "", 0.1)


def result(
    name: str, role: Role, losses: dict[str, list[float]], held_out: float | None = None
) -> Result:
    """Networks of a training accuracy of one half, and of as much as told on held-out images."""
    protocols = {
        protocol: ProtocolResult(
            0.5, 1, 1.0,
            tuple(
                Epoch(n, loss, 0.5, 1.0, validation_accuracy=held_out)
                for n, loss in enumerate(curve, start=1)
            ),
        )
        for protocol, curve in losses.items()
    }  # fmt: skip
    trainings = (Training(0, None, protocols),)  # type: ignore[arg-type]
    return Result(name, role, Recipe.whole(name, 3), 1, 1, {}, trainings, None)


def test_candidates_stand_at_their_cost_and_score_and_the_chosen_are_named(
    drawn: Callable[[ModuleType], list[Axes]],
) -> None:
    found = [
        candidate(0, "zoo", 3e6, 0.2),
        candidate(1, "reassembly", 1e6, 0.9),
        candidate(2, "reassembly", 2e6, 0.5),
    ]
    axes = drawn(run)
    run.candidate_picture(found, "probe", {found[1].recipe.key: "reassembly 1"})
    points = [np.asarray(dots.get_offsets()).tolist() for dots in axes[0].collections]
    assert points == [[[1.0, 0.9], [2.0, 0.5]], [[3.0, 0.2]], [[1.0, 0.9]]]  # the last: a ring
    assert [text.get_text() for text in axes[0].texts] == ["reassembly 1"]
    assert axes[0].get_ylabel() == "probe (higher is better)"


def test_a_curve_goes_on_from_protocol_to_protocol(
    drawn: Callable[[ModuleType], list[Axes]],
) -> None:
    results = [
        result("a", "reassembly", {"frozen": [4.0, 3.0], "full": [2.0, 1.0, 0.5]}),
        result("b", "plain", {"full": [5.0, 4.0, 3.0, 2.0, 1.0]}),
    ]
    axes = drawn(run)
    run.curve_picture(results)
    curves = {line.get_label(): list(line.get_ydata()) for line in axes[0].lines[:2]}
    assert curves == {"a": [4.0, 3.0, 2.0, 1.0, 0.5], "b": [5.0, 4.0, 3.0, 2.0, 1.0]}
    borders = [line.get_xdata()[0] for line in axes[0].lines[2:]]
    assert borders == [2.5]
    assert [text.get_text() for text in axes[0].texts] == ["FROZEN-TUNING", "FULL-TUNING"]
    assert len(axes) == 1


def test_accuracy_on_held_out_images_stands_beside_that_on_training_images(
    drawn: Callable[[ModuleType], list[Axes]],
) -> None:
    """Below the losses, with a legend of its own; networks of earlier runs have none."""
    results = [
        result("a", "reassembly", {"frozen": [4.0, 3.0], "full": [2.0]}, held_out=0.75),
        result("old", "single", {"frozen": [5.0, 4.0], "full": [3.0]}),
    ]
    axes = drawn(run)
    run.curve_picture(results)
    losses, accuracies = axes
    assert [list(line.get_ydata()) for line in losses.lines[:2]] == [[4, 3, 2], [5, 4, 3]]
    border, *lines = accuracies.lines
    assert border.get_xdata()[0] == 2.5
    drawn_lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]
    assert drawn_lines == [([1, 2, 3], [75.0] * 3), ([1, 2, 3], [50.0] * 3), ([], []), ([], [])]
    assert lines[0].get_linewidth() > lines[1].get_linewidth()
    legend = accuracies.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "held-out images (validation)",
        "training images, augmented",
    ]
    shown = [line.get_linewidth() for line in legend.get_lines()]
    assert shown == [lines[0].get_linewidth(), lines[1].get_linewidth()]
    assert (losses.get_xlabel(), accuracies.get_xlabel()) == ("", "epoch")
