"""The checker sees what is broken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_search.partitions.api import partition
from zoo_search.partitions.check import check, violations
from zoo_search.partitions.problem.definition import from_table


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_the_checker_sees_what_is_broken(random_table, seed):
    from dataclasses import replace

    table = random_table([6, 7, 8], seed)
    problem = from_table(table, k=3, eps=0.5)
    good = partition(table, k=3, eps=0.5, restarts=5, seed=seed)
    assert violations(problem, good) == []
    first, second, *rest = good.blocks
    moved = replace(first, stop=first.stop + 1), replace(second, start=second.start + 1)
    broken = [
        replace(good, blocks=(replace(first, set=(first.set + 1) % 3), second, *rest)),
        replace(good, blocks=(moved[0], second, *rest)),
        replace(good, blocks=(*moved, *rest)),
        replace(good, blocks=(replace(first, similarity=first.similarity + 0.1), second, *rest)),
        replace(good, objective=good.objective + 0.1),
        replace(good, upper_bound=good.objective - 0.1),
        replace(good, anchors=good.anchors[:2]),
        replace(good, anchors=good.anchors[1:] + good.anchors[:1]),
        replace(good, blocks=good.blocks[3:]),
    ]
    for other in broken:
        assert violations(problem, other)
        with pytest.raises(ValueError, match="breaks its constraints"):
            check(problem, other)
