"""Costs of parts, and limits on them."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zoo_search.costs import Budget, Cost
from zoo_search.costs.budget import NANOSECONDS


def test_costs_one_after_the_other():
    one, two = Cost(1, 2, 0.5, 100), Cost(10, 20, 0.25, 70)
    assert one + two == Cost(11, 22, 0.75, 100)
    assert one + Cost(1, 1) == Cost(2, 3)
    assert str(Cost(2_000_000, 5_000_000, 1.5, 3_000_000)) == (
        "2 M parameters, 0.005 GMACs, 1.5 ms, 3 MB of activations"
    )


@given(st.integers(1, 10**13))
@example(4_150_230)  # over a million and times a million in floats: 4150229.9999999995
def test_a_limit_of_milliseconds_admits_what_takes_exactly_that(nanoseconds):
    latency = nanoseconds / NANOSECONDS
    same, less = Budget(max_latency_ms=latency), Budget(max_latency_ms=math.nextafter(latency, 0))
    assert same.limits[0].high == nanoseconds
    assert less.limits[0].high == nanoseconds - 1
    assert same.admits(Cost(1, 1, latency))
    assert not less.admits(Cost(1, 1, latency))


def test_budgets_of_latency_and_memory():
    budget = Budget(max_latency_ms=1.5, max_memory=1000)
    assert budget.measures == {"latency", "memory"}
    assert budget.admits(Cost(1, 1, 1.5, 1000))
    assert not budget.admits(Cost(1, 1, 1.500001, 1000))
    assert not budget.admits(Cost(1, 1, 1.5, 1001))
    assert budget.excess(Cost(1, 1, 3.0, 1500)) == pytest.approx(1.5)
    assert str(budget) == "latency <= 1.5 ms, peak activation memory <= 1000 bytes"
    with pytest.raises(ValueError, match="not measured"):
        budget.admits(Cost(1, 1))
    budget = Budget(max_params=1.0, min_macs=2.5, max_memory=7.9, licenses=("MIT",))
    assert [(x.what, x.low, x.high) for x in budget.limits] == [
        ("params", 0, 1), ("macs", 3, None), ("memory", 0, 7),
    ]  # fmt: skip
    assert [budget.licensed(x) for x in ("mit", " MIT ", "apache-2.0", None)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert Budget().licensed(None)


def test_budget_limits_are_inclusive():
    budget = Budget(max_params=10, max_macs=20, min_params=5, min_macs=0)
    assert budget.admits(Cost(10, 20))
    assert budget.admits(Cost(5, 0))
    assert not budget.admits(Cost(11, 20))
    assert not budget.admits(Cost(4, 20))
    assert budget.excess(Cost(15, 30)) == pytest.approx(1.0)
