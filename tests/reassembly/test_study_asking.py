"""What a study asks for, without Ray and mostly without a disk."""

import pytest
from reassembly.study_by_hand import study_of

from zoo_search.costs import Budget, CostTable
from zoo_search.networks import Recipe
from zoo_search.reassembly import Space
from zoo_search.reassembly.candidates import Outcome
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.study import SearchStudy


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


LIMITS = {"max_params": 5.0e6, "max_macs": 6e7}


@pytest.mark.parametrize("method", SAMPLERS)
def test_study_asks_for_feasible_recipes_once_each_zoo_first(space, method):
    study = study_of(space, 1000, method, seed=0)
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
    first, second = (study_of(space, 30, "tpe", seed=1) for _ in range(2))
    assert run_alone(first) == run_alone(second)
    late = [len(str(c.recipe)) for c in first.candidates()[-15:]]
    everything = [len(str(r)) for r in space.enumerate()]
    assert sum(late) / len(late) > sum(everything) / len(everything)


def test_a_study_is_gone_on_with_and_another_one_is_replaced(space, tmp_path):
    path = tmp_path / "study.journal"
    first = study_of(space, 12, "random", path)
    begun = run_alone(first, stop=7)
    orphan = first.ask()  # asked for, never told: its process died
    assert orphan is not None
    again = study_of(space, 12, "random", path)
    assert again.resumed == 7
    rest = run_alone(again)
    assert len(begun) + len(rest) == 12 + len(space.zoo)
    assert not {r.key for r in begun} & {r.key for r in rest}
    assert orphan.recipe.key in {r.key for r in rest}
    assert len(again.candidates()) == 12 + len(space.zoo)
    assert study_of(space, 12, "random", path, made_from="b").resumed == 0
