"""Scores outlive what they do not depend on: budget, sampler, trials, other proxies."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from zoo_search.costs import Budget, CostTable
from zoo_search.networks import Recipe
from zoo_search.reassembly import Candidate, Space
from zoo_search.reassembly.candidates import Outcome
from zoo_search.reassembly.journal import StudyPlace, journal_storage
from zoo_search.reassembly.known import budget_from_json, budget_to_json
from zoo_search.reassembly.proxies import find_proxies
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.scoring import Scoring
from zoo_search.reassembly.study import SearchStudy

Asked = list[tuple[str, tuple[str, ...]]]
"""The keys of the recipes that had to be scored, and by which proxies."""


@pytest.fixture(scope="module")
def partition(free_partition):
    return free_partition


class Searches:
    """Searches of one zoo and one target, one after the other, in one journal."""

    def __init__(self, zoo, partition, path: Path) -> None:
        self.costs, self.partition, self.path = CostTable(zoo, 4), partition, path
        self.scoring = Scoring(find_proxies(["naswot"]))

    def space(self, budget: Budget) -> Space:
        return Space(self.partition, self.costs, budget)

    def study(
        self,
        budget: Budget,
        *proxies: str,
        trials: int = 40,
        sampler: str = "tpe",
        scored_from: str = "images",
    ) -> SearchStudy:
        proxies = proxies or ("naswot",)
        scoring = replace(self.scoring, proxies=find_proxies(proxies))
        made_from = f"{hash((budget, proxies, sampler, scored_from)):016x}"
        place = StudyPlace(
            self.path, made_from, scored_from=scored_from, proposed_from=f"{sampler} {scored_from}"
        )
        return SearchStudy(self.space(budget), scoring, trials, sampler, place)

    def fresh(self, budget: Budget, *proxies: str, sampler: str = "tpe") -> list[Candidate]:
        """The candidates of a search that knows of no other."""
        scoring = replace(self.scoring, proxies=find_proxies(proxies or ("naswot",)))
        study = SearchStudy(self.space(budget), scoring, 40, sampler, StudyPlace())
        go_on(study)
        return study.candidates()


def scores_of(recipe: Recipe, proxies: tuple[str, ...]) -> Outcome:
    """Scores that depend on recipe and proxy alone; one recipe in sixteen fails by all."""
    number = int(recipe.key, 16)
    if number % 16 == 0:
        return Outcome({}, "all: no", 0.25)
    return Outcome({name: number % (997 + len(name)) / 10 for name in proxies}, "", 0.5)


def go_on(study: SearchStudy, stop: int = 10**6) -> Asked:
    told: Asked = []
    while len(told) < stop and (asked := study.ask()) is not None:
        study.tell(asked, scores_of(asked.recipe, asked.proxies))
        told.append((asked.recipe.key, asked.proxies))
    return told


def in_short(candidates: list[Candidate]) -> list[tuple[str, object, object]]:
    return [(c.recipe.key, dict(c.scores), c.state) for c in candidates]


@pytest.fixture
def searches(zoo, partition, tmp_path: Path) -> Searches:
    return Searches(zoo, partition, tmp_path / "study.journal")


def middle(candidates: list[Candidate]) -> float:
    """A budget that half of the candidates keep."""
    return float(sorted(c.params for c in candidates)[len(candidates) // 2])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_smaller_budget_filters_and_only_what_is_new_is_scored(searches: Searches, sampler: str):
    first = searches.study(Budget(), sampler=sampler)
    go_on(first)
    before = {c.recipe.key: c for c in first.candidates()}
    budget = Budget(max_params=middle(first.candidates()))
    study = searches.study(budget, sampler=sampler)
    asked = go_on(study)
    found = study.candidates()
    kept = {k for k, c in before.items() if budget.admits(searches.costs.cost(c.recipe))}
    complete = {key for key in kept if before[key].state == "complete"}
    assert kept <= {c.recipe.key for c in found}
    assert not complete & {key for key, _ in asked}
    assert study.taken_over == len(complete) > 10
    reassemblies = [c for c in found if c.kind == "reassembly"]
    assert len(reassemblies) == 40
    assert len(found) == len(complete) + len(asked)
    assert all(budget.admits(searches.costs.cost(c.recipe)) for c in found)
    for candidate in found:
        assert candidate.scores == scores_of(candidate.recipe, ("naswot",)).scores
    # And back: the first search is there as it was.
    again = searches.study(Budget(), sampler=sampler)
    assert again.resumed == len(before)
    assert again.ask() is None
    assert again.candidates() == first.candidates()


def test_in_a_space_that_has_grown_the_new_part_gets_its_share_of_the_trials(searches: Searches):
    whole = searches.space(Budget()).enumerate()
    costs = sorted(searches.costs.cost(recipe).params for recipe in whole)
    small = Budget(max_params=float(costs[len(costs) // 4]))
    first = searches.study(small)
    go_on(first)
    known = [c for c in first.candidates() if c.kind == "reassembly"]
    study = searches.study(Budget())
    asked = go_on(study)
    found = [c.recipe for c in study.candidates() if c.kind == "reassembly"]
    assert {c.recipe.key for c in known} <= {recipe.key for recipe in found}
    new = [recipe for recipe in found if not small.admits(searches.costs.cost(recipe))]
    # A quarter of the space was covered: about a quarter of 40 trials; within three deviations.
    counted = 40 - (len(found) - len(known))
    assert abs(counted - 10) <= 3 * (40 * 0.25 * 0.75) ** 0.5
    assert len(new) > 15
    assert study.trials == len(found) == 40 + len(known) - counted
    fails = {c.recipe.key for c in known if c.state == "failed"}
    assert {key for key, _ in asked} & {c.recipe.key for c in known} == fails


@pytest.mark.parametrize("sampler", ["random", "cpsat", "nsga2"])
def test_another_sampler_finds_what_it_would_have_found_alone(searches: Searches, sampler: str):
    first = searches.study(Budget(), sampler="tpe")
    go_on(first)
    known = {c.recipe.key for c in first.candidates() if c.state == "complete"}
    study = searches.study(Budget(), sampler=sampler)
    asked = {key for key, _ in go_on(study)}
    alone = searches.fresh(Budget(), sampler=sampler)
    assert in_short(study.candidates()) == in_short(alone)
    assert asked == {c.recipe.key for c in alone} - known
    assert len(asked) < len(alone) - 10


def test_a_proxy_more_is_scored_for_what_is_there(searches: Searches):
    first = searches.study(Budget())
    go_on(first)
    study = searches.study(Budget(), "naswot", "params")
    asked = dict(go_on(study))
    assert set(asked) == {c.recipe.key for c in first.candidates()}
    for candidate in first.candidates():
        complete = candidate.state == "complete"
        wanted = ("params",) if complete else ("naswot", "params")
        assert asked[candidate.recipe.key] == wanted
    assert study.completed == sum(c.state == "complete" for c in first.candidates())
    both = ("naswot", "params")
    assert {c.recipe.key: c.scores for c in study.candidates()} == {
        c.recipe.key: scores_of(c.recipe, both).scores for c in first.candidates()
    }
    # One less: all is known.
    less = searches.study(Budget(), "params")
    assert [key for key, _ in go_on(less)] != []  # led by another proxy, it goes elsewhere
    back = searches.study(Budget(), "naswot")
    assert back.ask() is None


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_another_first_proxy_leads_and_known_scores_are_taken(searches: Searches, sampler: str):
    first = searches.study(Budget(), "naswot", "params", sampler=sampler)
    go_on(first)
    known = {c.recipe.key for c in first.candidates() if c.state == "complete"}
    study = searches.study(Budget(), "params", "naswot", sampler=sampler)
    asked = {key for key, _ in go_on(study)}
    alone = searches.fresh(Budget(), "params", "naswot", sampler=sampler)
    assert in_short(study.candidates()) == in_short(alone)
    assert asked == {c.recipe.key for c in alone} - known


def test_a_search_that_begins_with_known_scores_and_is_killed_ends_as_if_it_had_not_been(
    zoo, partition, tmp_path: Path
):
    ends = []
    for name, stops in (("whole", ()), ("killed", (0, 3, 9))):
        searches = Searches(zoo, partition, tmp_path / name)
        first = searches.study(Budget())
        go_on(first)
        budget = Budget(max_params=middle(first.candidates()))
        for stop in stops:
            study = searches.study(budget, "naswot", "params")
            go_on(study, stop)
            assert study.ask() is not None  # never told
        last = searches.study(budget, "naswot", "params")
        go_on(last)
        ends.append(last.candidates())
    assert ends[0] == ends[1]


def test_scores_under_other_conditions_are_not_taken(searches: Searches):
    first = searches.study(Budget())
    go_on(first)
    budget = Budget(max_params=middle(first.candidates()))
    for other in (
        {"batches": 6}, {"batch_size": 16}, {"seed": 1},
    ):  # fmt: skip
        searches.scoring = replace(Scoring(find_proxies(["naswot"])), **other)
        study = searches.study(replace(budget, min_params=float(len(str(other)))))
        assert study.ask() is not None
        assert study.taken_over == 0
    searches.scoring = Scoring(find_proxies(["naswot"]))
    assert searches.study(budget, scored_from="other images").expected == 40 + len(
        searches.space(budget).zoo
    )


def test_the_code_of_a_users_proxy_is_one_of_the_conditions(
    searches: Searches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def known(body: str, budget: Budget) -> int:
        text = f"def mine(net, batches):\n    return {body}\n"
        (tmp_path / "proxy_of_theirs.py").write_text(text, encoding="utf-8")
        sys.modules.pop("proxy_of_theirs", None)
        study = searches.study(budget, "module:proxy_of_theirs:mine")
        go_on(study)
        return study.taken_over

    monkeypatch.syspath_prepend(str(tmp_path))

    assert known("1.0", Budget()) == 0
    assert known("1.0", Budget(min_params=1)) > 10
    assert known("2.0", Budget(min_params=2)) == 0


def test_every_search_stays_in_the_journal_and_is_checked(searches: Searches):
    for budget in (Budget(), Budget(min_params=1)):
        go_on(searches.study(budget), 5)
    names = optuna.get_all_study_names(journal_storage(searches.path))
    assert len(names) == 2
    assert names[0] == "zoo-search"
    text = searches.path.read_bytes()
    place = text.index(b'"scores"') + 30
    changed = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
    searches.path.write_bytes(changed)
    study = searches.study(Budget(min_params=1))
    study.settle()
    assert (study.resumed, study.taken_over) == (0, 0)


def test_budgets_come_back_from_json() -> None:
    for budget in (Budget(), Budget(1e6, 2e9, 3, 4, 5.5, 6e6, ("mit", "apache-2.0"))):
        assert budget_from_json(budget_to_json(budget)) == budget
