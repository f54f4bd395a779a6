"""Budgets of latency, memory and licences in a run: what is measured, kept, said and written."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from zoo_search.config import BudgetConfig, HookConfig, SearchConfig, load_job
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.costs import Budget
from zoo_search.reassembly import Space, rank, step
from zoo_search.reassembly.costing import (
    LATENCY,
    budget_of,
    cost_table,
    measure_costs,
    open_space,
)
from zoo_search.report import ranking
from zoo_search.zoo import ZooModel

LIMITS = {
    "max_params": 5.0e6, "max_latency_ms": 1e4, "max_memory": 4e5, "licenses": ["MIT"],
    "latency_threads": 1,
}  # fmt: skip

LICENSES = {"cnn": "MIT", "vit": "mit", "mlp": "gpl-3.0", "swin": "mit"}


@pytest.fixture
def licensed(zoo) -> dict[str, ZooModel]:
    return {name: replace(model, license=LICENSES[name]) for name, model in zoo.items()}


def test_latencies_are_kept_and_taken_again(licensed, partition, tmp_path, capsys):
    store = RunStore(tmp_path)
    config = BudgetConfig(**LIMITS)

    def prepared(config: BudgetConfig) -> tuple[Space, dict]:
        space = open_space(partition, licensed, 4, config, store)
        return space, measure_costs(space, licensed, 0, store)

    space, facts = prepared(config)
    assert facts["left_out"] == {"mlp": "gpl-3.0"}
    assert facts["latency"]["batch"] == 1
    assert facts["latency"]["recipes"] == 5
    assert 0 <= facts["latency"]["error_median"] <= facts["latency"]["error_worst"] < 5
    said = capsys.readouterr().err
    assert "left out by 'budget.licenses': mlp (gpl-3.0)" in said
    assert "against 5 whole networks" in said
    kept = store.kept(LATENCY)["nanoseconds"]
    blocks = [b for b in partition.blocks if b.model != "mlp"]
    assert {f"block {b.model}[{b.start},{b.stop})" for b in blocks} <= set(kept)
    assert not any("mlp" in key for key in kept)
    again, _ = prepared(config)
    assert again.costs.latency.measured == kept == store.kept(LATENCY)["nanoseconds"]
    recipe = space.sample(1)[0]
    assert again.cost(recipe) == space.cost(recipe)
    other, _ = prepared(config.model_copy(update={"latency_batch": 3}))
    assert other.costs.latency.measured != kept  # another batch is another figure
    assert store.kept(LATENCY)["batch"] == 3


def test_nothing_is_measured_that_is_not_asked_for(licensed, partition, tmp_path):
    store = RunStore(tmp_path)
    config = BudgetConfig(max_params=5e6)
    space = open_space(partition, licensed, 4, config, store)
    assert measure_costs(space, licensed, 0, store) == {}
    assert not store.exists(LATENCY)
    assert space.costs.latency.measured == {}
    cost = space.cost(space.sample(1)[0])
    assert (cost.latency, cost.memory) == (None, None)
    asked = cost_table(licensed, 4, BudgetConfig(measure=("memory",)), store)
    cost = Space(partition, asked, Budget()).cost(space.sample(1)[0])
    assert cost.latency is None
    assert cost.memory > 0


@pytest.mark.slow
def test_a_run_keeps_such_a_budget(licensed, partition, target, hosts, tmp_path, zoo):
    search = SearchConfig(trials=4, sampler="random", batches=1, batch_size=8, fit_images=16)
    job = SimpleNamespace(
        name="small",
        seed=0,
        init=(HookConfig(hook="least_squares"),),
        budget=BudgetConfig(**LIMITS),
        search=search,
    )
    store = RunStore(tmp_path / "run")
    store.write_text("job.yaml", "name: small\nzoo: {cnn: {arch: x}}\ndataset: digits\n")
    found = step.run(partition, licensed, target, 4, job, store, hosts)
    table = pq.read_table(tmp_path / "run" / "candidates.parquet")
    assert {"latency_ms", "memory"} <= set(table.column_names)
    assert max(table.column("memory").to_pylist()) <= 4e5
    assert not any("mlp" in c.recipe.models for c in found)
    metadata = json.loads(table.schema.metadata[b"zoo_search"])
    assert metadata["left_out"] == {"mlp": "gpl-3.0"}
    assert metadata["latency"]["error_worst"] >= metadata["latency"]["error_median"] >= 0
    ranked = ranking(store)
    rows = ranked.rows()
    assert [column.field for column in ranked.measured.values()] == ["latency_ms", "memory"]
    by_id = {c.id: c for c in found}
    for row in rows:
        candidate = by_id[row["id"]]
        assert (row["latency_ms"], row["memory"]) == (candidate.latency, candidate.memory)
    ranked = {r["model"]: r["in_budget"] for r in rank(licensed, target, 4, "params", job, store)}
    assert not ranked["mlp"]  # by its licence


def test_the_run_file_takes_the_limits_and_names_a_wrong_one():
    run = {"name": "a", "zoo": {"m": {"arch": "resnet10t"}}, "dataset": "digits"}
    job = load_job(run | {"budget": LIMITS})
    assert budget_of(job.budget) == Budget(
        max_params=5e6, max_latency_ms=1e4, max_memory=4e5, licenses=("MIT",)
    )
    with pytest.raises(UserError, match="Did you mean 'max_latency_ms'"):
        load_job(run | {"budget": {"max_latency": 3}})
