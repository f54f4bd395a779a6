"""Results of fine-tuning as they stand in ``winners.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import GivenUp, Result, Winners
from zoo_search.networks import BlockRef, Recipe
from zoo_search.training.snapshot import Epoch

WRITTEN: dict[str, Any] = {
    "format": 1,
    "dataset": "digits",
    "classes": ["0", "1"],
    "train_images": 20,
    "test_images": 30,
    "results": [
        {
            "name": "reassembly 1",
            "role": "reassembly",
            "recipe": {
                "blocks": [
                    {"model": "a", "start": 0, "stop": 2},
                    {"model": "b", "start": 4, "stop": 8},
                ],
                "head": "target",
            },
            "params": 1000,
            "macs": 2000,
            "scores": {"naswot": 1.5},
            "protocols": {
                name: {
                    "test_accuracy": accuracy,
                    "trainable_params": 10,
                    "seconds": 1.5,
                    "curve": [
                        {
                            "epoch": 1,
                            "train_loss": 0.5,
                            "train_accuracy": 0.25,
                            "seconds": 0.75,
                            "rate": 1e-3,
                            "images_per_second": 40.0,
                            "device_memory": 2**20,
                            "validation_accuracy": 0.375,
                        }
                    ],
                }
                for name, accuracy in (("frozen", 0.5), ("full", 0.75))
            },
            "folder": "winners/0",
            "task": "0123456789abcdef",
            "init": [
                {
                    "hook": "dpiat",
                    "role": "zoo",
                    "values": 8,
                    "changed": 4,
                    "fitted": False,
                    "seconds": 0.1,
                    "facts": {"source": "b"},
                    "name": "a",
                    "donors": ["b"],
                    "summary": "b",
                    "kept": False,
                }
            ],
            "of": None,
        }
    ],
    "given_up": [{"name": "b", "role": "single", "reason": "The training diverged."}],
}


def test_the_file_is_read_and_written_as_it_stands(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_json("winners.json", WRITTEN)
    read = Winners.read(store)
    (result,) = read.results
    assert (read.classes, read.train_images, read.test_images) == (("0", "1"), 20, 30)
    assert result.recipe == Recipe((BlockRef("a", 0, 2), BlockRef("b", 4, 8)))
    assert result.accuracy == 0.75
    assert result.protocols["frozen"].curve[0].train_accuracy == 0.25
    assert result.protocols["frozen"].curve[0].validation_accuracy == 0.375
    assert read.given_up == (GivenUp("b", "single", "The training diverged."),)
    assert result.init[0].line == "its part a: dpiat from b"
    read.write(store)
    assert store.read_json("winners.json") == WRITTEN
    assert list(store.read_json("winners.json")) == list(WRITTEN)


def test_results_of_versions_before_tasks_and_hooks_are_read() -> None:
    entry = {k: v for k, v in WRITTEN["results"][0].items() if k not in ("task", "init", "of")}
    result = Result.from_dict(json.loads(json.dumps(entry)))
    assert (result.task, result.init, result.of) == ("", (), None)


def test_a_file_of_a_version_before_streaming_is_read(tmp_path: Path) -> None:
    """Its points are of four values, and it knows of no network that came to no end."""
    written = json.loads(json.dumps(WRITTEN))
    del written["given_up"]
    for protocol in written["results"][0]["protocols"].values():
        protocol["curve"] = [
            {"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.25, "seconds": 0.75}
        ]
    store = RunStore(tmp_path)
    store.write_json("winners.json", written)
    read = Winners.read(store)
    assert read.given_up == ()
    (point,) = read.results[0].protocols["full"].curve
    assert point == Epoch(1, 0.5, 0.25, 0.75)
    assert (point.validation_accuracy, point.rate, point.device_memory) == (None, 0.0, 0)
    read.write(store)
    assert Winners.read(store) == read
