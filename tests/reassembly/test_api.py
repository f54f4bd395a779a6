"""The search on Ray."""

import os
import textwrap
from pathlib import Path

import pytest
import torch

from zoo_search import cluster
from zoo_search.cluster.hosts import Hosts
from zoo_search.core.errors import UserError
from zoo_search.core.timeout import TIMEOUT
from zoo_search.costs import Budget, CostTable
from zoo_search.hooks import as_hooks, register_hook
from zoo_search.networks.parents import Parents
from zoo_search.reassembly import Candidate, Space, search
from zoo_search.reassembly.api import run_search
from zoo_search.reassembly.journal import StudyPlace
from zoo_search.reassembly.proxies import PROXIES, find_proxies, register_proxy
from zoo_search.reassembly.scoring import Scorer, Scoring, ScoringTask

LIMITS = {"max_params": 5.0e6, "max_macs": 6e7}

OPTIONS = {"batches": 1, "batch_size": 8, "fit_images": 16}


@pytest.fixture(scope="module")
def space(zoo, partition) -> Space:
    return Space(partition, CostTable(zoo, 4), Budget(**LIMITS))


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
    alone = Scorer(
        ScoringTask(
            Parents(zoo), images, labels, 4, Scoring(find_proxies(["naswot"]), seed=3, **OPTIONS)
        )
    )
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

    with pytest.raises(UserError, match=r"'fails' failed .*KeyError: 'boom' \(test_api\.py"):
        search(
            partition, zoo, (images, labels), Budget(**LIMITS), trials=8, sampler="random",
            init=["random", fails], seed=3, **OPTIONS,
        )  # fmt: skip
    assert len(set(called)) == len(called) == 10


def run(
    space: Space, zoo, images, hosts: Hosts, trials: int, proxy: str = "naswot", init="random"
) -> list[Candidate]:
    """Search at random on shared processes."""
    labels = torch.arange(len(images)) % 4
    scoring = Scoring(find_proxies([proxy]), as_hooks(init), seed=3, **OPTIONS)
    task = ScoringTask(dict(Parents(zoo)), images, labels, 4, scoring)
    return run_search(
        space, task, trials, "random", StudyPlace(), workers=2, hosts=hosts
    ).candidates


@pytest.mark.slow
def test_hooks_go_to_the_hosts_and_their_reports_come_back(
    zoo, space, images, hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Hooks that this process alone knows run on Ray; one that fails is a reason, not a score."""
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

    init = ["dpiat", "module:actor_hooks:halve", "test_not_three"]
    found = run(space, zoo, images, hosts, 8, init=init)
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


@pytest.mark.slow
def test_a_recipe_that_hosts_die_over_fails_after_three_and_the_others_are_scored(
    zoo, space, images, hosts: Hosts, tmp_path: Path
):
    poison, log = space.zoo[0].key, tmp_path / "deaths"

    @register_proxy("test_deadly")
    def deadly(net, batches):
        if net.recipe.key == poison:
            with log.open("a") as file:
                file.write("x")
            os._exit(1)
        return float(len(str(net.recipe)))

    try:
        found = run(space, zoo, images, hosts, 2, "test_deadly")
    finally:
        PROXIES.unregister("test_deadly")
    assert log.read_text() == "xxx"
    assert len({c.recipe.key for c in found}) == len(found) == 2 + len(space.zoo)
    for candidate in found:
        if candidate.recipe.key == poison:
            assert candidate.reason == "the worker that scored it died, three times"
            assert candidate.state == "failed"
        else:
            assert candidate.scores == {"test_deadly": len(str(candidate.recipe))}


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
    cluster.set_timeout(0.1)
    try:
        with pytest.raises(UserError, match=r"waiting for the scores of candidates: .*0\.1 s"):
            search(partition, zoo, target, Budget(**LIMITS), trials=2, workers=1, **OPTIONS)
    finally:
        cluster.set_timeout(TIMEOUT)
