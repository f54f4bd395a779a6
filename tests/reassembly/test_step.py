"""The search of a run: its files, and going on with it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from zoo_search.config import BudgetConfig, HookConfig, SearchConfig
from zoo_search.core.store import RunStore
from zoo_search.networks import Recipe
from zoo_search.networks.parents import Parents
from zoo_search.networks.target_images import load_target
from zoo_search.reassembly import rank, step
from zoo_search.reassembly.proxies import PROXIES, find_proxies
from zoo_search.reassembly.scoring import Scorer, Scoring, ScoringTask

LIMITS = {"max_params": 5.0e6, "max_macs": 6e7}

OPTIONS = {"batches": 1, "batch_size": 8, "fit_images": 16}


def test_step_writes_candidates_and_study(zoo, partition, target, hosts, tmp_path: Path):
    job = SimpleNamespace(
        name="small",
        seed=0,
        init=(HookConfig(hook="least_squares"),),
        budget=BudgetConfig(**LIMITS),
        search=SearchConfig(trials=3, proxies=("naswot", "grad_norm"), **OPTIONS),
    )
    store = RunStore(tmp_path / "run")
    found = step.run(partition, zoo, target, 4, job, store, hosts)
    assert step.read(store) == found
    assert store.exists("study.journal")
    table = pq.read_table(tmp_path / "run" / "candidates.parquet")
    assert table.column_names == [
        "id", "kind", "recipe", "params", "macs", "state", "reason", "seconds", "init",
        "naswot", "grad_norm",
    ]  # fmt: skip
    assert table.column("id").to_pylist() == list(range(len(found)))
    again = step.run(partition, zoo, target, 4, job, store, hosts)  # nothing is scored twice
    assert again == found
    rows = rank(zoo, target, 4, "naswot", job)
    assert {r["model"] for r in rows} == set(zoo)
    values = [r["score"] for r in rows]
    assert values == sorted(values, reverse=True)


@pytest.mark.slow
def test_a_changed_budget_keeps_the_scores_that_are_there(
    zoo, partition, target, hosts, tmp_path: Path
):
    """Of recipes that keep it; a proxy more is scored for those. What is new is as if alone."""

    def run(max_params: float, *proxies: str) -> tuple[dict[str, tuple[Recipe, int, object]], str]:
        job = SimpleNamespace(
            name="small",
            seed=0,
            init=(HookConfig(hook="least_squares"),),
            budget=BudgetConfig(max_params=max_params),
            search=SearchConfig(trials=6, sampler="random", proxies=proxies, **OPTIONS),
        )
        found = step.run(partition, zoo, target, 4, job, RunStore(tmp_path / "run"), hosts)
        table = pq.read_table(tmp_path / "run" / "candidates.parquet")
        note = json.loads(table.schema.metadata[b"zoo_search"])["note"]
        return {c.recipe.key: (c.recipe, c.params, c.scores) for c in found}, note

    before, _ = run(1e9, "naswot")
    limit = float(sorted(params for _, params, _ in before.values())[5])
    kept = {key for key, (_, params, _) in before.items() if params <= limit}
    after, note = run(limit, "naswot", "params")
    assert kept < after.keys()
    assert f"{len(kept)} had been scored by one, but for some of the proxies" in note
    images, labels = load_target(target, zoo, 32)
    scoring = Scoring(find_proxies(["naswot"]), **OPTIONS)
    alone = Scorer(ScoringTask(Parents(zoo), images, labels, 4, scoring))
    for recipe, params, scores in after.values():
        assert scores == {"naswot": alone(recipe).scores["naswot"], "params": params}
    back, note = run(1e9, "naswot")
    assert back == before
    assert f"{len(before)} candidates were in the study already" in note


def test_the_code_of_a_users_proxy_and_sampler_is_part_of_what_a_study_is_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    def code(body: str, **search: object) -> list[object]:
        text = f"def proxy(net, batches):\n    return {body}\n\n\nclass Sampler:\n    a = {body}\n"
        (tmp_path / "searching_of_theirs.py").write_text(text, encoding="utf-8")
        sys.modules.pop("searching_of_theirs", None)
        return step.own_code(SearchConfig(**search))

    for search in (
        {"proxies": ("naswot", "module:searching_of_theirs:proxy")},
        {"sampler": "module:searching_of_theirs:Sampler"},
    ):
        assert code("1.0", **search) == code("1.0", **search) != code("2.0", **search)
        assert json.loads(json.dumps(code("1.0", **search))) == code("1.0", **search)
    assert step.own_code(SearchConfig(proxies=("naswot", "params"), sampler="nsga2")) == []


def test_scores_of_an_earlier_definition_are_not_taken_over() -> None:
    """Proxies whose definition has changed count with its version; runs without them stay."""
    changed = {}
    for name in PROXIES:
        for versions in step.own_code(SearchConfig(proxies=("naswot", name))):
            changed |= versions["versions"]
    assert changed == {"naswot_dery": 2, "synflow": 2}
