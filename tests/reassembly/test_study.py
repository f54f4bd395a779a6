"""The study on disk: what it holds, and going on with it after its process was killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import timm
import torch
from reassembly.study_by_hand import go_on, outcome, read, study_of

from zoo_search.core.errors import UserError
from zoo_search.costs import Budget, CostTable
from zoo_search.linegraph import trace
from zoo_search.networks import Recipe
from zoo_search.networks.parents import Parent
from zoo_search.reassembly import Space
from zoo_search.reassembly.journal import StudyPlace
from zoo_search.reassembly.proxies import find_proxies
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.scoring import Scorer, Scoring, ScoringTask
from zoo_search.reassembly.space import make_space
from zoo_search.reassembly.study import SearchStudy
from zoo_search.testing.small import even_partition, partition_of


@pytest.fixture(scope="module")
def space(zoo, free_partition) -> Space:
    return Space(free_partition, CostTable(zoo, 4), Budget())


@pytest.mark.parametrize("method", SAMPLERS)
def test_a_study_that_was_killed_ends_as_if_it_had_not_been(space, tmp_path: Path, method):
    """Twice in mid-run: 7 and 18 candidates later, each time with one being scored."""
    whole = study_of(space, 40, method, seed=0)
    go_on(whole)
    path = tmp_path / "study.journal"
    for stop in (7, 18):
        study = study_of(space, 40, method, path)
        go_on(study, stop)
        assert study.ask() is not None  # never told
    last = study_of(space, 40, method, path)
    assert last.resumed == 25
    assert last.expected == 40 + len(space.zoo) - 25
    go_on(last)
    assert last.candidates() == whole.candidates()
    states = {t.state for t in read(path).get_trials()}
    assert states == {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL}


@pytest.mark.parametrize(
    "wrong", [{"recipe": 5}, {"recipe": "[" * 10**5}, {"number": "x"}, {"init": 1}, {"kind": None}]
)
def test_a_trial_that_no_search_wrote_is_said(space, tmp_path: Path, wrong: dict[str, object]):
    path = tmp_path / "study.journal"
    study = study_of(space, 10, "random", path)
    go_on(study, 2)
    kept = read(path).get_trials()[-1]
    attrs = {name: v for name, v in {**kept.user_attrs, **wrong}.items() if v is not None}
    study._study.add_trial(optuna.create_trial(values=[1.0, 1.0], user_attrs=attrs))
    with pytest.raises(UserError, match=r"study\.journal holds what no search has written"):
        study_of(space, 10, "random", path)


def test_what_several_workers_were_scoring_is_asked_for_again(space, tmp_path: Path):
    path = tmp_path / "study.journal"
    study = study_of(space, 30, "cpsat", path)
    go_on(study, 16)
    lost = [study.ask() for _ in range(3)]
    study = study_of(space, 30, "cpsat", path)
    first = study.ask()  # and killed again at once
    again = study_of(space, 30, "cpsat", path)
    asked = [a.recipe for a in go_on(again)]
    assert {a.recipe for a in lost if a is not None} == set(asked[:3])
    assert first is not None
    assert first.recipe in asked[:3]
    keys = [c.recipe.key for c in again.candidates()]
    assert len(keys) == len(set(keys)) == 30 + len(space.zoo)
    assert [c.id for c in again.candidates()] == list(range(len(keys)))


def test_the_study_shows_score_against_gmacs(space, tmp_path: Path):
    path = tmp_path / "study.journal"
    study = study_of(space, 60, "nsga2", path, seed=3)
    go_on(study)
    kept = read(path)
    assert [d.name for d in kept.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert kept.metric_names == ["score", "GMACs"]
    points = {}
    for candidate, trial in zip(study.candidates(), kept.get_trials(), strict=True):
        attrs, cost = trial.user_attrs, space.cost(candidate.recipe)
        assert Recipe.from_any(json.loads(attrs["recipe"])) == candidate.recipe
        assert (attrs["params"], attrs["macs"]) == (cost.params, cost.macs)
        assert attrs["gmacs"] == pytest.approx(cost.macs / 1e9, abs=1e-6)
        taken = attrs["conditions"]["naswot"]
        assert (taken["batches"], taken["batch_size"], taken["seed"]) == (5, 32, 3)
        expected = outcome(candidate.recipe)
        assert attrs["scores"] == expected.scores
        assert attrs["reason"] == expected.reason == candidate.reason
        assert (trial.state.name == "FAIL") == bool(expected.reason)
        if not expected.reason:
            assert trial.values == [expected.scores["naswot"], attrs["gmacs"]]
            points[trial.number] = (-expected.scores["naswot"], cost.macs)
    front = {
        number
        for number, (score, macs) in points.items()
        if not any(s <= score and m <= macs and (s, m) != (score, macs) for s, m in points.values())
    }
    assert {t.number for t in kept.best_trials} == front


def test_candidates_that_a_real_proxy_cannot_score_keep_their_reason(images, tmp_path: Path):
    """NASWOT has nothing to look at in a transformer of tanh alone."""
    torch.manual_seed(0)
    size = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 4, "num_heads": 2}
    zoo: dict[str, Parent] = {}
    blocks: list[tuple[str, int, int, int, int]] = []
    for name, act in (("gelu", "gelu"), ("tanh", "tanh"), ("tanh2", "tanh")):
        module = timm.create_model("vit_tiny_patch16_224", act_layer=act, **size).eval()
        zoo[name] = Parent(trace(module, (3, 64, 64), name))
        blocks += [(name, 2 * stage, 2 * stage + 2, stage, stage) for stage in range(2)]
    space = Space(partition_of(2, blocks), CostTable(zoo, 4), Budget())
    scoring = Scoring(find_proxies(["naswot", "params"]), fit_images=16, batches=1, batch_size=8)
    task = ScoringTask(zoo, images, torch.arange(len(images)) % 4, 4, scoring)
    scorer, path = Scorer(task), tmp_path / "study.journal"
    study = SearchStudy(space, scoring, 6, "cpsat", StudyPlace(path, "a"))
    while (asked := study.ask()) is not None:
        study.tell(asked, scorer(asked.recipe))
    again = SearchStudy(space, scoring, 6, "cpsat", StudyPlace(path, "a"))
    assert again.ask() is None  # a failure is not scored again, either
    assert len(again.candidates()) == 9
    for candidate in again.candidates():
        gelu = any(block.model == "gelu" for block in candidate.recipe.blocks)
        assert candidate.state == ("complete" if gelu else "failed")
        assert ("naswot" in candidate.scores) == gelu
        assert candidate.reason == "" if gelu else "no ReLU-like unit" in candidate.reason
        assert candidate.scores["params"] == space.cost(candidate.recipe).params
    failed = [t for t in read(path).get_trials() if t.state.name == "FAIL"]
    assert len(failed) == 4
    assert all("no ReLU-like unit" in t.user_attrs["reason"] for t in failed)
    assert failed[0].user_attrs["conditions"]["naswot"]["batch_size"] == 8


def killed_at(stops: Sequence[int], space: Any, method: str, path: Path) -> SearchStudy:
    """A study of 30 trials that was killed after so many, each time with one under way."""
    for stop in stops:
        study = study_of(space, 30, method, path)
        go_on(study, stop)
        assert study.ask() is not None
    last = study_of(space, 30, method, path)
    go_on(last)
    return last


@pytest.mark.parametrize("method", SAMPLERS)
def test_first_blocks_of_models_are_scored_on_top(zoo, free_partition, tmp_path: Path, method):
    """Of a study that was killed, too; they are no reassemblies."""
    space = Space(free_partition, CostTable(zoo, 4), Budget(), early=True)
    whole = study_of(space, 30, method)
    go_on(whole)
    kinds = [candidate.kind for candidate in whole.candidates()]
    assert kinds[: 4 * len(zoo)] == ["zoo"] * len(zoo) + ["part"] * 3 * len(zoo)
    assert set(kinds[4 * len(zoo) :]) == {"reassembly"}
    assert len(kinds) == 30 + 4 * len(zoo)
    assert all(len(c.recipe.models) > 1 for c in whole.candidates() if c.kind == "reassembly")
    last = killed_at((7, 21), space, method, tmp_path / "study.journal")
    assert last.candidates() == whole.candidates()


@pytest.mark.parametrize("method", SAMPLERS)
def test_a_study_of_several_partitions_that_was_killed(zoo, tmp_path: Path, method):
    graphs = {name: model.graph for name, model in zoo.items()}
    partitions = [even_partition(graphs, k) for k in (2, 3)]
    space = make_space(partitions, CostTable(zoo, 4), Budget())
    whole = study_of(space, 30, method)
    go_on(whole)
    path = tmp_path / "study.journal"
    last = killed_at((5, 19), space, method, path)
    assert last.candidates() == whole.candidates()
    keys = [candidate.recipe.key for candidate in last.candidates()]
    assert len(set(keys)) == len(keys) == 30 + len(zoo)
    trials = {t.user_attrs["blocks"]: t.params for t in read(path).get_trials()}
    for candidate in last.candidates():
        params = trials[str(candidate.recipe)]
        place, stages = ("0", 2) if params["partition"] == "partition 0, k 2" else ("1", 3)
        names = [f"partition {place}, k {stages}, stage {stage}" for stage in range(stages)]
        assert list(params) == ["partition", *names]
