"""Budget, settings and work of a drafted run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from run.draft.folders import LAPTOP, SERVER, fill

from zoo_search.config import DatasetConfig, load_job
from zoo_search.costs import Cost
from zoo_search.data import open_dataset
from zoo_search.partitions.problem.limits import check_limits
from zoo_search.run.draft.models import Model
from zoo_search.run.draft.plan import budget_for, eps_for, settings_for, work_of


def model(name: str, params: int, macs: int, nodes: int = 16) -> Model:
    return Model(name, {"arch": name}, "", Cost(params, macs), nodes, None)


def test_the_budget_lets_the_cheaper_models_through() -> None:
    models = [model("c", 9_000_000, 3 * 10**9), model("a", 5_123_456, 10**8),
              model("b", 2_000_000, 10**9), model("d", 10**8, 2 * 10**9)]  # fmt: skip
    budget = budget_for(models)
    # Three of four, by MACs: d is one of them, and its parameters set the other limit.
    assert [m.name for m in models if budget.admits(m.cost)] == ["a", "b", "d"]
    assert budget_for(models[:1]).admits(models[0].cost)
    for value in (budget.max_params, budget.max_macs):
        assert len(f"{value:.0f}".rstrip("0")) <= 2


@pytest.mark.parametrize("nodes", range(4, 40))
def test_eps_lets_every_model_be_cut(nodes: int) -> None:
    models = [model("a", 1, 1, 16), model("b", 1, 1, nodes)]
    sizes = [[1] * m.nodes for m in models]
    names = [[str(i) for i in range(m.nodes)] for m in models]
    check_limits(["a", "b"], names, sizes, 4, eps_for(models), "nodes")


def test_few_images_are_all_taken_and_a_laptop_trains_less(tmp_path: Path) -> None:
    folder = fill(os.fsencode(tmp_path / "x"), {b"a": 12, b"b": 12})
    dataset = open_dataset(DatasetConfig(name="folder", path=folder))
    laptop, server = settings_for(dataset, LAPTOP), settings_for(dataset, SERVER)
    assert server == {"similarity": {"fraction": 1.0}, "search": {"batch_size": 20}}
    assert laptop["finetune"] == {"candidates": 6, "winners": 2, "tries": 1}
    job = load_job(
        {"name": "x", "zoo": {"m": {"arch": "m"}}, "dataset": {"name": "folder", "path": folder},
         **laptop}
    )  # fmt: skip
    work = work_of(job, dataset, [model("a", 1, 1), model("b", 1, 1)])
    assert (work.similar, work.scored) == (20, 20)
    # 16 images are learned from, one step an epoch. Of 6 reassemblies, 2 models and 2 random
    # recipes 2 of each are trained for 30 epochs; the other 4 are left behind on the way, by 15
    # epochs at the latest. All of the winners are finalists, with two further seeds.
    least, most = 6 * 30 + 6 * 2 * 30, 6 * 30 + 4 * 15 + 6 * 2 * 30
    assert least < work.steps <= most
    assert work.trained == 16 * work.steps
