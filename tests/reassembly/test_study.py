"""The study on disk: what it holds, and going on with it after its process was killed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import timm
import torch

from zoo_search.errors import UserError
from zoo_search.linegraph import trace
from zoo_search.reassembly import Budget, CostTable, Recipe, Space, journal
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.scoring import Outcome, Scorer, Task, scoring_zoo
from zoo_search.reassembly.search import conditions_of
from zoo_search.reassembly.study import Asked, SearchStudy


@pytest.fixture(scope="module")
def space(zoo, free_partition) -> Space:
    return Space(free_partition, CostTable(zoo, 4), Budget())


def outcome(recipe: Recipe) -> Outcome:
    """A score that depends on the recipe alone; one recipe in sixteen fails."""
    number = int(recipe.key, 16)
    if number % 16 == 0:
        return Outcome({}, "naswot: no", 0.25)
    return Outcome({"naswot": number % 997 / 10, "params": 1.0}, "", 0.5)


def go_on(study: SearchStudy, stop: int = 10**6) -> list[Asked]:
    told = []
    while len(told) < stop and (asked := study.ask()) is not None:
        study.tell(asked, outcome(asked.recipe))
        told.append(asked)
    return told


@pytest.mark.parametrize("method", SAMPLERS)
def test_a_study_that_was_killed_ends_as_if_it_had_not_been(space, tmp_path: Path, method):
    """Twice in mid-run: 7 and 18 candidates later, each time with one being scored."""
    whole = SearchStudy(space, None, 40, method, 0, "", ["naswot"])
    go_on(whole)
    path = tmp_path / "study.journal"
    for stop in (7, 18):
        study = SearchStudy(space, path, 40, method, 0, "a", ["naswot"])
        go_on(study, stop)
        assert study.ask() is not None  # never told
    last = SearchStudy(space, path, 40, method, 0, "a", ["naswot"])
    assert last.resumed == 25
    assert last.expected == 40 + len(space.zoo) - 25
    go_on(last)
    assert last.candidates() == whole.candidates()
    states = {t.state for t in read(path).get_trials()}
    assert states == {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL}


def test_what_several_workers_were_scoring_is_asked_for_again(space, tmp_path: Path):
    path = tmp_path / "study.journal"
    study = SearchStudy(space, path, 30, "cpsat", 0, "a", ["naswot"])
    go_on(study, 16)
    lost = [study.ask() for _ in range(3)]
    study = SearchStudy(space, path, 30, "cpsat", 0, "a", ["naswot"])
    first = study.ask()  # and killed again at once
    again = SearchStudy(space, path, 30, "cpsat", 0, "a", ["naswot"])
    asked = [a.recipe for a in go_on(again)]
    assert {a.recipe for a in lost if a is not None} == set(asked[:3])
    assert first is not None
    assert first.recipe in asked[:3]
    keys = [c.recipe.key for c in again.candidates()]
    assert len(keys) == len(set(keys)) == 30 + len(space.zoo)
    assert [c.id for c in again.candidates()] == list(range(len(keys)))


def test_a_journal_that_was_cut_in_mid_line_with_its_lock_left(
    space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal, "_LOCK_SECONDS", 3)
    monkeypatch.chdir(tmp_path)
    path = Path("study.journal")
    go_on(SearchStudy(space, path, 20, "random", 0, "a", ["naswot"]), 9)
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"worker')
    Path("study.journal.lock").symlink_to(path.absolute())
    study = SearchStudy(space, path, 20, "random", 0, "a", ["naswot"])
    assert study.resumed == 9
    go_on(study)
    assert len(read(path).get_trials()) == 20 + len(space.zoo)


def test_the_study_shows_score_against_gmacs(space, tmp_path: Path):
    path = tmp_path / "study.journal"
    conditions = {"naswot": {"batches": 5, "seed": 3}}
    study = SearchStudy(space, path, 60, "nsga2", 3, "a", ["naswot"], conditions=conditions)
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
        assert attrs["conditions"] == conditions
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


def test_any_optuna_storage_will_do(space, tmp_path: Path):
    url = f"sqlite:///{tmp_path}/study.db"
    options = {"storage": url, "name": "digits"}
    go_on(SearchStudy(space, None, 15, "tpe", 0, "a" * 64, ["naswot"], **options), 9)
    study = SearchStudy(space, None, 15, "tpe", 0, "a" * 64, ["naswot"], **options)
    assert study.resumed == 9
    go_on(study)
    alone = SearchStudy(space, None, 15, "tpe", 0, "", ["naswot"])
    go_on(alone)
    assert study.candidates() == alone.candidates()
    assert SearchStudy(space, None, 15, "tpe", 0, "b" * 64, ["naswot"], **options).resumed == 0
    names = optuna.get_all_study_names(url)
    assert sorted(names) == ["digits " + "a" * 12, "digits " + "b" * 12]


@pytest.mark.parametrize("url", ["sqlite:////nowhere/study.db", "nosuchthing://x", "?"])
def test_a_storage_that_cannot_be_opened_is_named(space, url):
    with pytest.raises(UserError, match=r"search\.storage"):
        SearchStudy(space, None, 5, "random", 0, "", ["naswot"], storage=url)


def test_candidates_that_a_real_proxy_cannot_score_keep_their_reason(images, tmp_path: Path):
    """NASWOT has nothing to look at in a transformer of tanh alone."""
    torch.manual_seed(0)
    size = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 4, "num_heads": 2}
    zoo, blocks = {}, []
    for name, act in (("gelu", "gelu"), ("tanh", "tanh"), ("tanh2", "tanh")):
        module = timm.create_model("vit_tiny_patch16_224", act_layer=act, **size).eval()
        zoo[name] = SimpleNamespace(module=module, graph=trace(module, (3, 64, 64), name))
        blocks += [
            SimpleNamespace(model=name, start=2 * s, stop=2 * s + 2, stage=s, set=s)
            for s in range(2)
        ]
    space = Space(SimpleNamespace(k=2, blocks=blocks), CostTable(zoo, 4), Budget())
    task = Task(
        scoring_zoo(zoo), images, torch.arange(len(images)) % 4, 4, ("naswot", "params"),
        fit_images=16, batches=1, batch_size=8,
    )  # fmt: skip
    scorer, path = Scorer(task), tmp_path / "study.journal"
    study = SearchStudy(
        space, path, 6, "cpsat", 0, "a", task.proxies, conditions=conditions_of(task)
    )
    while (asked := study.ask()) is not None:
        study.tell(asked, scorer(asked.recipe))
    again = SearchStudy(space, path, 6, "cpsat", 0, "a", task.proxies)
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


def read(path: Path) -> optuna.Study:
    """Read a journal as optuna-dashboard does."""
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)
