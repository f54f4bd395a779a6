import json
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch

from zoo_search import engine
from zoo_search.config import BudgetConfig, HookConfig, SearchConfig
from zoo_search.errors import UserError
from zoo_search.hooks import register_hook
from zoo_search.reassembly import Budget, Candidate, CostTable, Recipe, Space, rank, search, step
from zoo_search.reassembly.candidates import best_first, from_table, to_table
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.scoring import Outcome, Scorer, Task, scoring_zoo
from zoo_search.reassembly.study import SearchStudy
from zoo_search.store import RunStore

LIMITS = {"max_params": 5.0e6, "max_macs": 6e7}
OPTIONS = {"batches": 1, "batch_size": 8, "fit_images": 16}


@pytest.fixture(scope="module")
def space(zoo, partition) -> Space:
    return Space(partition, CostTable(zoo, 4), Budget(**LIMITS))


def run_alone(study: SearchStudy, stop: int = 10**6) -> list[Recipe]:
    """Ask and tell without Ray; the score is a count of letters."""
    asked_for = []
    while len(asked_for) < stop and (asked := study.ask()) is not None:
        asked_for.append(asked.recipe)
        study.tell(asked, Outcome({"naswot": float(len(str(asked.recipe)))}))
    return asked_for


@pytest.mark.parametrize("method", SAMPLERS)
def test_study_asks_for_feasible_recipes_once_each_zoo_first(space, method):
    study = SearchStudy(space, None, 1000, method, 0, "", ["naswot"])
    asked = run_alone(study)
    zoo = len(space.zoo)
    assert [r.key for r in asked[:zoo]] == [r.key for r in space.zoo]
    everything = {r.key for r in space.enumerate()} | {r.key for r in space.zoo}
    assert len(asked) == len(everything)  # all of the space, and it says so
    assert {r.key for r in asked} == everything
    kinds = [c.kind for c in study.candidates()]
    assert kinds == ["zoo"] * zoo + ["reassembly"] * (len(asked) - zoo)


def test_tpe_looks_where_scores_are_high(space):
    """Best of 30: near the top of the space, and the same for the same seed."""
    first, second = (SearchStudy(space, None, 30, "tpe", 1, "", ["naswot"]) for _ in range(2))
    assert run_alone(first) == run_alone(second)
    late = [len(str(c.recipe)) for c in first.candidates()[-15:]]
    everything = [len(str(r)) for r in space.enumerate()]
    assert sum(late) / len(late) > sum(everything) / len(everything)


def test_a_study_is_gone_on_with_and_another_one_is_replaced(space, tmp_path):
    path = tmp_path / "study.journal"
    first = SearchStudy(space, path, 12, "random", 0, "a", ["naswot"])
    begun = run_alone(first, stop=7)
    orphan = first.ask()  # asked for, never told: its process died
    assert orphan is not None
    again = SearchStudy(space, path, 12, "random", 0, "a", ["naswot"])
    assert again.resumed == 7
    rest = run_alone(again)
    assert len(begun) + len(rest) == 12 + len(space.zoo)
    assert not {r.key for r in begun} & {r.key for r in rest}
    assert orphan.recipe.key in {r.key for r in rest}
    assert len(again.candidates()) == 12 + len(space.zoo)
    assert SearchStudy(space, path, 12, "random", 0, "b", ["naswot"]).resumed == 0


def test_candidates_survive_the_file():
    recipe = Recipe.from_any({"blocks": [{"model": "m", "start": 0, "stop": 2}]})
    good = Candidate(0, recipe, "zoo", 10, 20, {"naswot": 1.5, "params": 10.0}, "complete", "", 0.1)
    bad = Candidate(1, recipe, "reassembly", 11, 2**40, {}, "failed", "naswot: no", 0.2)
    table = to_table([good, bad], ["naswot", "params"], {"seed": 0})
    assert table.column("naswot").to_pylist() == [1.5, None]
    assert from_table(table) == [good, bad]
    assert best_first([bad, good], "naswot") == [good]
    assert json.loads(table.schema.metadata[b"zoo_search"])["seed"] == 0


@pytest.mark.usefixtures("ray_cluster")
def test_search_on_ray_scores_as_one_process_does(zoo, partition, space, images):
    images = images[:32]  # no more than the search itself keeps
    labels = torch.arange(len(images)) % 4
    found = search(
        partition, zoo, (images, labels), Budget(**LIMITS), trials=6, sampler="random",
        proxies=("naswot", "params"), workers=2, seed=3, **OPTIONS,
    )  # fmt: skip
    assert len(found) == 6 + len(space.zoo)
    assert {c.recipe.key for c in found if c.kind == "zoo"} == {r.key for r in space.zoo}
    assert len({c.recipe.key for c in found}) == len(found)
    scores = [c.scores["naswot"] for c in found]
    assert scores == sorted(scores, reverse=True)
    task = Task(scoring_zoo(zoo), images, labels, 4, ("naswot",), seed=3, **OPTIONS)
    alone = Scorer(task)
    for candidate in found:
        cost = space.cost(candidate.recipe)
        assert (candidate.params, candidate.macs) == (cost.params, cost.macs)
        assert space.budget.admits(cost)
        assert candidate.scores["params"] == cost.params
        score = alone(candidate.recipe).scores["naswot"]
        assert candidate.scores["naswot"] == score


def test_a_hook_that_always_fails_ends_the_search_before_it_begins(zoo, partition, images):
    labels, called = torch.arange(len(images)) % 4, []

    def fails(module, context):
        called.append(context.name)
        raise KeyError("boom")

    with pytest.raises(UserError, match=r"'fails' failed .*KeyError: 'boom' \(test_search\.py"):
        search(
            partition, zoo, (images, labels), Budget(**LIMITS), trials=8, sampler="random",
            init=["random", fails], seed=3, **OPTIONS,
        )  # fmt: skip
    assert len(set(called)) == len(called) == 10


@pytest.mark.usefixtures("ray_cluster")
def test_hooks_go_to_the_actors_and_their_reports_come_back(
    zoo, partition, images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Hooks that this process alone knows run on Ray; one that fails is a reason, not a score."""
    labels = torch.arange(len(images)) % 4
    code = """
        FACTOR = 0.5

        def halve(module, context):
            for piece in context.pieces[:-1]:
                piece.module.get_parameter("map.weight").mul_(FACTOR)
            return {"stitches": len(context.pieces) - 1}
    """
    (tmp_path / "actor_hooks.py").write_text(textwrap.dedent(code), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))  # here, and not in the workers

    @register_hook("test_not_three")
    def not_three(module, context):
        if len(module.recipe.models) == 3:
            raise ValueError("three are too many")

    found = search(
        partition, zoo, (images, labels), Budget(**LIMITS), trials=8, sampler="random",
        init=["dpiat", "module:actor_hooks:halve", "test_not_three"], workers=2, seed=3, **OPTIONS,
    )  # fmt: skip
    complete = [c for c in found if c.state == "complete"]
    failed = [c for c in found if c.state == "failed"]
    assert all(len(c.recipe.models) != 3 for c in complete)
    assert {len(c.recipe.models) for c in failed} == {3}
    assert all("three are too many" in c.reason for c in failed)
    for candidate in complete:
        dpiat, mine, _ = candidate.init
        stitches = len(candidate.recipe.runs) - 1
        assert [piece["piece"] for piece in dpiat["facts"]["pieces"]][-1] == "head"
        assert len(dpiat["facts"]["pieces"]) == stitches + 1
        assert mine["hook"] == "module:actor_hooks:halve"
        assert mine["facts"] == {"stitches": stitches}
        assert (mine["changed"] > 0) == (stitches > 0)


@pytest.mark.usefixtures("ray_cluster")
def test_step_writes_candidates_and_study(zoo, partition, target, tmp_path: Path):
    hashed = {name: SimpleNamespace(**vars(model), identity=name) for name, model in zoo.items()}
    job = SimpleNamespace(
        name="small",
        seed=0,
        init=(HookConfig(hook="least_squares"),),
        budget=BudgetConfig(**LIMITS),
        search=SearchConfig(trials=3, proxies=("naswot", "grad_norm"), **OPTIONS),
    )
    store = RunStore(tmp_path / "run")
    found = step.run(partition, hashed, target, 4, job, store)
    assert step.read(store) == found
    assert store.exists("study.journal")
    table = pq.read_table(tmp_path / "run" / "candidates.parquet")
    assert table.column_names == [
        "id", "kind", "recipe", "params", "macs", "state", "reason", "seconds", "init",
        "naswot", "grad_norm",
    ]  # fmt: skip
    assert table.column("id").to_pylist() == list(range(len(found)))
    again = step.run(partition, hashed, target, 4, job, store)  # nothing is scored twice
    assert again == found
    rows = rank(hashed, target, 4, "naswot", job)
    assert {r["model"] for r in rows} == set(zoo)
    values = [r["score"] for r in rows]
    assert values == sorted(values, reverse=True)


def test_unknown_sampler_and_infeasible_budget(zoo, partition, images):
    target = (images, torch.arange(len(images)) % 4)
    with pytest.raises(UserError, match="Did you mean 'random'"):
        search(partition, zoo, target, sampler="ramdom")
    with pytest.raises(UserError, match="No recipe is within the budget"):
        search(partition, zoo, target, Budget(max_params=1e3))


@pytest.mark.usefixtures("ray_cluster")
def test_a_search_without_progress_is_given_up(zoo, partition, images):
    """No worker has started, let alone scored, within a tenth of a second."""
    target = (images[:32], torch.arange(32) % 4)
    engine.set_patience(0.1)
    try:
        with pytest.raises(UserError, match=r"waiting for the scores of candidates: .*0\.1 s"):
            search(partition, zoo, target, Budget(**LIMITS), trials=2, workers=1, **OPTIONS)
    finally:
        engine.set_patience(engine.PATIENCE)
