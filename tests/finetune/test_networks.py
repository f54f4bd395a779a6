"""Networks before their fine-tuning: what started them is told in full."""

from __future__ import annotations

from pathlib import Path

import timm
from safetensors.torch import save_file

from zoo_search.config import load_job
from zoo_search.data import open_dataset
from zoo_search.finetune.entry import Entry
from zoo_search.finetune.networks import networks
from zoo_search.hooks import HookReport
from zoo_search.reassembly import BlockRef, Recipe
from zoo_search.zoo import load_zoo


def test_the_start_of_a_model_is_told_with_the_networks_that_hold_it(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "a.safetensors")
    job = load_job(
        {
            "name": "t",
            "dataset": {"name": "digits", "per_class": 3},
            "input_size": 32,
            "zoo": {
                "a": {"arch": "resnet10t", "weights": str(tmp_path / "a.safetensors")},
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
    first, second = networks(entries, zoo, open_dataset(job.dataset, 0), job)
    assert [(r["hook"], r["role"], r["name"]) for r in first.reports] == [
        ("dpiat", "zoo", "new"),
        ("least_squares", "candidate", str(mixed)),
    ]
    lines = [HookReport(**report).line for report in first.reports]
    assert lines[0].startswith("its part new: dpiat from a (similarity 0.")
    assert lines[1].startswith("least_squares, ")
    assert first.fitted
    assert [r["role"] for r in second.reports] == ["candidate"]
