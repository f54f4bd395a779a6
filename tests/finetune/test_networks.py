"""Networks before their fine-tuning: what started them is told in full."""

from __future__ import annotations

from collections.abc import Callable

from zoo_search.config import load_job
from zoo_search.data import open_dataset
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.networks import build_networks
from zoo_search.networks import BlockRef, Recipe
from zoo_search.zoo import load_zoo


def test_the_start_of_a_model_is_told_with_the_networks_that_hold_it(
    weights_file: Callable[..., str],
) -> None:
    job = load_job(
        {
            "name": "t",
            "dataset": {"name": "digits", "per_class": 3},
            "input_size": 32,
            "zoo": {
                "a": {"arch": "resnet10t", "weights": weights_file("resnet10t")},
                "new": {"arch": "resnet14t", "weights": None},
            },
        }
    )
    zoo = load_zoo(job)
    mixed = Recipe((BlockRef("a", 0, 2), BlockRef("new", 2, 4)))
    entries = [
        Entry("reassembly 1", "reassembly", mixed),
        Entry("a", "single", Recipe.whole("a", len(zoo["a"].graph))),
    ]
    first, second = build_networks(
        entries, zoo, open_dataset(job.dataset, 0).select("train"), job, 0
    )
    assert [(r.hook, r.role, r.name) for r in first.reports] == [
        ("dpiat", "zoo", "new"),
        ("least_squares", "candidate", str(mixed)),
    ]
    lines = [report.line for report in first.reports]
    assert lines[0].startswith("its part new: dpiat from a (similarity 0.")
    assert lines[1].startswith("least_squares, ")
    assert first.fitted
    assert [r.role for r in second.reports] == ["candidate"]
