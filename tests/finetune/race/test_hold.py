"""How many networks of a kind are trained with all seeds."""

from __future__ import annotations

import pytest

from zoo_search.config import FinetuneConfig
from zoo_search.finetune.race.hold import finalists_of


@pytest.mark.parametrize(
    ("asked", "judges", "expected"),
    [(None, 40, 3), (None, 99, 3), (None, 100, 1), (None, 0, 1), (1, 40, 1), (2, 1000, 2)],
)
def test_where_few_images_judge_all_winners_have_all_seeds(
    asked: int | None, judges: int, expected: int
) -> None:
    assert finalists_of(FinetuneConfig(finalists=asked), judges) == expected
