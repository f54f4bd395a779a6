"""What a training on its way is judged by."""

from __future__ import annotations

from dataclasses import replace

from zoo_search.finetune.entries import ProtocolResult
from zoo_search.finetune.watching import best_so_far
from zoo_search.training.choice import Kept
from zoo_search.training.snapshot import Epoch


def curve(*accuracies: float) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(n, 1.0, 0.5, 1.0, validation_accuracy=a, validation_loss=1 - a)
        for n, a in enumerate(accuracies, start=1)
    )


def test_the_best_epoch_counts_and_none_beyond_the_rung() -> None:
    finished = {"frozen": ProtocolResult(0.5, 1, 1.0, curve(0.5, 0.75))}
    kept = Kept("full", 2, 0.5, 0.5)
    found = {
        until: best_so_far(kept, finished, "full", curve(0.25, 0.5, 1.0), until)  # type: ignore[arg-type]
        for until in (1, 2, 3, 4, 5)
    }
    assert found[1] == Kept("frozen", 1, 0.5, 0.5)
    assert found[2] == found[3] == found[4] == Kept("frozen", 2, 0.75, 0.25)
    assert found[5] == Kept("full", 3, 1.0, 0.0)


def test_the_start_counts_where_it_is_what_is_kept() -> None:
    start = Kept("frozen", 0, 0.75, 0.25)
    assert best_so_far(start, {}, "frozen", curve(0.5), 1) == start
    assert best_so_far(start, {}, "frozen", curve(1.0), 1) == Kept("frozen", 1, 1.0, 0.0)
    assert best_so_far(None, {}, "frozen", curve(1.0), 1) is None


def test_the_metric_that_chooses_says_which_epoch_is_best() -> None:
    points = tuple(
        replace(point, validation_score=1 - point.validation_accuracy)  # type: ignore[operator]
        for point in curve(0.5, 0.25, 0.75)
    )
    found = best_so_far(Kept("frozen", 1, 0.5, 0.5, 0.5), {}, "frozen", points, 3)
    assert found == Kept("frozen", 2, 0.25, 0.75, 0.75)
