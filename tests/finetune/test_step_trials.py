"""Plain architectures and changed winners through a real Ray Train, with their hooks' reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import HALVED, Done, train_here, tune_small

import zoo_search as zs
from zoo_search import dpiat
from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset
from zoo_search.finetune import tuning
from zoo_search.finetune.entries import Winners
from zoo_search.hooks import Context, HookReport
from zoo_search.networks import Recipe
from zoo_search.training.accuracy import accuracy
from zoo_search.training.images import InMemory
from zoo_search.zoo import load_zoo
from zoo_search.zoo.load import build_untrained


@pytest.mark.slow
def test_every_trial_keeps_the_reports_of_its_hooks(done: Done, job: dict[str, Any]) -> None:
    store, results = done
    assert [(r.name, r.role, r.of) for r in results] == [
        ("reassembly 1", "reassembly", None),
        ("random recipe 1", "random", None),
        ("x", "plain", None),
        ("larger", "variant", "reassembly 1"),
    ]
    hooks = {r.name: [(report.hook, report.role) for report in r.init] for r in results}
    assert hooks == {
        "reassembly 1": [("least_squares", "candidate"), ("test_halve", "candidate")],
        "random recipe 1": [("least_squares", "candidate"), ("test_halve", "candidate")],
        "x": [("dpiat", "plain")],
        "larger": [("dpiat", "variant")],
    }
    assert results[0].init[1].facts == {"factor": 0.5}
    # A plain architecture has no fitted head to start with: all epochs are of the last protocol.
    assert [list(r.protocols) for r in results] == [["frozen"]] * 4
    assert results[3].init[0].facts["source"] == "reassembly 1"
    written = store.read_json("winners.json")["results"]
    assert written == json.loads(json.dumps([result.to_dict() for result in results]))
    assert Winners.read(store).results == tuple(results)
    reports = [tuple(map(HookReport.from_dict, entry["init"])) for entry in written]
    assert reports == [result.init for result in results]
    card = store.read_text("winners/3/README.md")
    assert "a changed form of the network 'reassembly 1'" in card
    assert "dpiat from reassembly 1 (similarity 1.000), 100 % of the values" in card


@pytest.mark.slow
def test_one_network_under_two_roles_is_trained_once(done: Done) -> None:
    _, (first, again, *_) = done
    assert first.recipe == again.recipe
    assert first.trainings == again.trainings
    assert (first.folder, again.folder) == ("winners/0", "winners/1")


@pytest.mark.slow
def test_a_plain_trial_starts_from_the_most_similar_model(done: Done, job: dict[str, Any]) -> None:
    """FROZEN-TUNING leaves the blocks as they were: they are what DPIAT made of the donor."""
    store, results = done
    config = load_job(job)
    zoo = load_zoo(config)
    module = build_untrained(config.finetune.plain["x"], "x", config, "finetune.plain")
    source = dpiat.rank_sources(module, zoo)[0][0]
    assert results[2].init[0].facts["source"] == source == "b"
    dpiat.transfer(zoo["b"].module, module)
    blocks = {n: t for n, t in load_file(Path(store.path("winners/2/model.safetensors"))).items()
              if n.startswith("blocks")}  # fmt: skip
    expected = {id(t): t for t in module.state_dict().values()}
    values = list(expected.values())
    assert all(
        any(t.shape == v.shape and torch.equal(t, v) for v in values) for t in blocks.values()
    )
    assert zs.load(store.path("winners/2")).recipe == Recipe.whole("x", 12)


@pytest.mark.slow
def test_a_changed_winner_is_loaded_and_scores_what_was_reported(done: Done, job: Any) -> None:
    store, results = done
    net = zs.load(store.path("winners/3"))
    assert net.input_size == (3, 48, 48)
    winner = load_file(Path(store.path("winners/0/model.safetensors")))
    own = net.state_dict()
    assert all(torch.equal(t, own[n]) for n, t in winner.items() if n.startswith("blocks"))
    dataset = open_dataset(load_job(job).dataset, 0)
    test = dataset.select("test").load(net.transform.view)
    found = accuracy(net, InMemory(test.images, test.labels), net.transform)
    assert found == pytest.approx(results[3].protocols["frozen"].test_accuracy, abs=0.002)
    # The head learned on from the winner's, which one epoch of small steps does not leave far.
    heads = [state["head.weight"].flatten() for state in (own, winner)]
    assert torch.cosine_similarity(*heads, dim=0) > 0.9
    assert not torch.equal(*heads)


def fails(module: torch.nn.Module, context: Context) -> None:
    """A user's hook with a mistake."""
    raise KeyError("weight")


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("test_idle", r"^finetune\.variants\.larger: .*test_idle changed nothing"),
        (
            "test_fails",
            r"'test_fails' failed on larger \(variant\): KeyError: 'weight' \(test_step_trials",
        ),
    ],
)
def test_a_variant_that_cannot_be_filled_is_found_before_the_training(
    job: dict[str, Any], tmp_path: Path, init: str, message: str
) -> None:
    zs.register_hook("test_fails")(fails)
    zs.register_hook("test_idle")(lambda module, context: None)
    store = RunStore(tmp_path / "run")
    variants = {"larger": {"input_size": 48, "init": init}}
    with pytest.raises(UserError, match=message):
        tune_small(job | {"finetune": {**job["finetune"], "variants": variants}}, store)
    assert store.list("") == []


@pytest.mark.slow
def test_one_more_variant_trains_nothing_else(
    done: Done, job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, store = done.results, RunStore(tmp_path / "run")
    shutil.copytree(done.store.url, store.url)
    store.remove("finetune")  # as the pipeline does at the end of the step
    trained: list[str] = []

    def spy(tasks: Any, where: RunStore, config: Any, run: str) -> dict[str, Any]:
        trained.extend(t.name for t in tasks if not where.exists(f"finetune/{t.key}"))
        return train_here(tasks, where, config, run)

    monkeypatch.setattr(tuning, "train_all", spy)
    variants = {**job["finetune"]["variants"], "again": {"of": "x", "input_size": 40}}
    more = tune_small(job | {"finetune": {**job["finetune"], "variants": variants}}, store)
    assert trained == ["again"]
    assert [r.protocols for r in more[:4]] == [r.protocols for r in results]
    assert more[4].of == "x"
    assert sorted(store.list("winners")) == ["0", "1", "2", "3", "4"]
    assert set(HALVED) == {"candidate"}
