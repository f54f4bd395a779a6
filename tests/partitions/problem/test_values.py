"""Similarities as the solvers see them."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_search.core.errors import UserError
from zoo_search.partitions.problem.definition import from_table


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_names_its_cuts(random_table, bad):
    table = random_table([4, 5])
    table.values[2, 7] = bad
    with pytest.raises(UserError, match="cut 2 of 'm0' with cut 2 of 'm1'"):
        from_table(table, k=2, eps=1.0)


def test_values_are_kept_to_a_billionth_and_sums_are_exact(random_table):
    table = random_table([8, 12, 20])
    problem = from_table(table, k=4)
    assert np.abs(problem.values - table.values).max() < 1e-9
    drawn = problem.values.ravel()
    assert np.sum(drawn) == sum(drawn.tolist()) == sum(sorted(drawn.tolist()))
