"""Results of fine-tuning as they stand in ``winners.json``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import (
    GivenUp,
    Raced,
    Result,
    Seen,
    Winners,
    best,
    best_first,
)
from zoo_search.networks import BlockRef, Recipe
from zoo_search.training.choice import Kept
from zoo_search.training.snapshot import Epoch

SEEN: dict[str, Any] = {"validation_accuracy": 0.5, "validation_loss": 1.5}
RACED: dict[str, Any] = {
    "name": "b",
    "role": "single",
    "recipe": {"blocks": [{"model": "b", "start": 0, "stop": 8}], "head": "target", "taps": "last"},
    "macs": 7,
    "seen": [
        {"epochs": 2, **SEEN, "tuned": {}},
        {"epochs": 4, **SEEN, "tuned": {"rate": 2}},
    ],
    "reason": "",
    "bracket": 1,
    "expected": None,
}
FIRST: dict[str, Any] = {
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


def written() -> dict[str, Any]:
    """The file of today: two trainings of one network, of which the second is exported."""
    facts = json.loads(json.dumps(FIRST))
    (entry,) = facts["results"]
    entry["recipe"]["taps"] = "last"
    protocols, task = entry.pop("protocols"), entry.pop("task")
    for protocol, epoch in (("frozen", 1), ("full", 0)):
        for point in protocols[protocol]["curve"]:
            point["validation_loss"] = 0.25
        protocols[protocol]["kept"] = {
            "protocol": "frozen",
            "epoch": epoch,
            "validation_accuracy": 0.375,
            "validation_loss": 0.25,
        }
    other = json.loads(json.dumps(protocols))
    other["full"] |= {"test_accuracy": 0.25, "kept": {**other["full"]["kept"], "protocol": "full"}}
    other["full"]["kept"]["validation_accuracy"] = 0.625
    trainings = [
        {"seed": 7 + n, "fold": n, "protocols": p, "task": f"{task}{n}"}
        for n, p in enumerate((protocols, other))
    ]
    place = list(entry).index("folder")
    items = list(entry.items())
    facts["results"] = [
        dict([*items[:place], ("trainings", trainings), items[place], ("exported", 1),
              ("retrained", []), *items[place + 1 :], ("tuned", {"lr_full": 0.004})])
    ]  # fmt: skip
    return {**facts, "format": 2, "validation_images": 5, "race": [RACED]}


def test_the_file_is_read_and_written_as_it_stands(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_json("winners.json", written())
    read = Winners.read(store)
    (result,) = read.results
    assert (read.classes, read.train_images, read.test_images) == (("0", "1"), 20, 30)
    assert read.validation_images == 5
    assert result.recipe == Recipe((BlockRef("a", 0, 2), BlockRef("b", 4, 8)))
    assert result.accuracy == 0.5  # of 0.75 and 0.25
    assert result.accuracy_after("frozen") == 0.5
    assert result.accuracy_after("full") == 0.5
    assert result.validation == (0.5, 0.25)
    assert result.protocols["full"].test_accuracy == 0.25  # of the exported one
    assert result.trainings[0].kept == Kept("frozen", 0, 0.375, 0.25)
    assert result.protocols["frozen"].curve[0].train_accuracy == 0.25
    assert result.protocols["frozen"].curve[0].validation_accuracy == 0.375
    assert read.given_up == (GivenUp("b", "single", "The training diverged."),)
    assert result.init[0].line == "its part a: dpiat from b"
    assert result.tuned == {"lr_full": 0.004}
    assert [(one.name, one.macs, one.seen[1].tuned) for one in read.race] == [("b", 7, {"rate": 2})]
    read.write(store)
    assert store.read_json("winners.json") == written()
    keys = [list(facts["results"][0]) for facts in (store.read_json("winners.json"), written())]
    assert keys[0] == keys[1]


def test_a_file_of_the_first_format_is_one_training_that_nothing_judged(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_json("winners.json", FIRST)
    (result,) = Winners.read(store).results
    (training,) = result.trainings
    assert (training.seed, training.fold, training.task) == (0, None, "0123456789abcdef")
    assert (result.accuracy, result.validation, training.kept) == (0.75, None, None)


def test_what_is_trained_again_is_told_in_the_place_of_what_was_judged() -> None:
    facts = written()["results"][0]
    (again,) = facts["trainings"][:1]
    result = Result.from_dict({**facts, "retrained": [again], "exported": 0})
    assert result.accuracy == 0.75
    assert result.told == result.retrained
    assert result.validation == (0.5, 0.25)  # of those that were judged


def judged(name: str, accuracy: float, loss: float, score: float | None = None) -> Result:
    facts = written()["results"][0]
    for training in facts["trainings"]:
        kept = training["protocols"]["full"]["kept"]
        kept |= {"validation_accuracy": accuracy, "validation_loss": loss}
        kept |= {} if score is None else {"validation_score": score}
    return Result.from_dict({**facts, "name": name})


def test_the_best_is_best_on_validation_images_then_of_the_lower_loss() -> None:
    results = [judged("a", 0.5, 0.1), judged("b", 0.6, 0.3), judged("c", 0.6, 0.2)]
    assert [result.name for result in best_first(results)] == ["c", "b", "a"]
    found = best(results, "reassembly")
    assert found is not None
    assert found.name == "c"
    assert best(results, "single") is None
    first = Result.from_dict(FIRST["results"][0])  # nothing judged it: the order is the search's
    assert [r.name for r in best_first([*results, first])] == ["a", "b", "c", "reassembly 1"]


def test_what_validation_chose_by_orders_networks_and_stands_in_the_file(tmp_path: Path) -> None:
    """Where that is not the accuracy; a file of a run by accuracy is what it was."""
    results = [judged("a", 0.9, 0.1, 0.5), judged("b", 0.6, 0.3, 0.7), judged("c", 0.5, 0.2, 0.7)]
    assert [result.name for result in best_first(results)] == ["c", "b", "a"]
    assert results[0].validation == (0.9, 0.1)
    assert results[0].judged == (0.5, 0.1)
    store = RunStore(tmp_path)
    seen = Seen(3, 0.5, 1.0, validation_score=0.25)
    raced = Raced("a", "single", results[0].recipe, 1, (seen, replace(seen, validation_score=None)))
    told = Winners("x", ("0",), 1, 1, tuple(results), race=(raced,), metric="macro_f1")
    told.write(store)
    assert Winners.read(store) == told
    facts = store.read_json("winners.json")
    assert facts["metric"] == "macro_f1"
    assert [point.get("validation_score") for point in facts["race"][0]["seen"]] == [0.25, None]
    replace(told, metric="accuracy", results=(judged("a", 0.9, 0.1),), race=()).write(store)
    assert "metric" not in store.read_json("winners.json")
    assert "validation_score" not in store.read_text("winners.json")


def test_results_of_versions_before_tasks_and_hooks_are_read() -> None:
    entry = {k: v for k, v in FIRST["results"][0].items() if k not in ("task", "init", "of")}
    result = Result.from_dict(json.loads(json.dumps(entry)))
    assert (result.trainings[0].task, result.init, result.of) == ("", (), None)


def test_a_file_of_a_version_before_streaming_is_read(tmp_path: Path) -> None:
    """Its points are of four values, and it knows of no network that came to no end."""
    facts = json.loads(json.dumps(FIRST))
    del facts["given_up"]
    for protocol in facts["results"][0]["protocols"].values():
        protocol["curve"] = [
            {"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.25, "seconds": 0.75}
        ]
    store = RunStore(tmp_path)
    store.write_json("winners.json", facts)
    read = Winners.read(store)
    assert read.given_up == ()
    (point,) = read.results[0].protocols["full"].curve
    assert point == Epoch(1, 0.5, 0.25, 0.75)
    assert (point.validation_accuracy, point.rate, point.device_memory) == (None, 0.0, 0)
    read.write(store)
    assert Winners.read(store) == read
