"""How many networks of a kind are trained with all seeds, and what is said of further ones."""

from __future__ import annotations

import pytest

from zoo_search.config import FinetuneConfig
from zoo_search.finetune.entries import Entry, Expected
from zoo_search.finetune.race.hold import finalists_of, why_taken
from zoo_search.networks import Recipe


@pytest.mark.parametrize(
    ("asked", "judges", "expected"),
    [(None, 40, 3), (None, 99, 3), (None, 100, 1), (None, 0, 1), (1, 40, 1), (2, 1000, 2)],
)
def test_where_few_images_judge_all_winners_have_all_seeds(
    asked: int | None, judges: int, expected: int
) -> None:
    assert finalists_of(FinetuneConfig(finalists=asked), judges) == expected


def test_it_is_said_why_further_networks_race() -> None:
    recipe = Recipe.whole("a", 4)
    plain = [Entry(f"reassembly {n}", "reassembly", recipe) for n in (4, 5)]
    guessed = [
        Entry(f"reassembly {n}", "reassembly", recipe, expected=Expected(accuracy, 0.008))
        for n, accuracy in ((6, 0.941), (7, 0.961))
    ]
    assert why_taken(plain, "naswot") == "another 2 reassemblies race, 2 taken by naswot"
    assert why_taken([*plain, *guessed], "naswot") == (
        "another 4 reassemblies race, 2 taken by naswot, 2 taken by what the race has shown: "
        "expected 95.1 % of the validation images on average, 96.1 ± 0.8 % of reassembly 7"
    )
    assert why_taken(guessed, "probe").startswith("another 2 reassemblies race, 2 taken by what")
