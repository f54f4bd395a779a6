"""Every metric of ours keeps to the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from similarities.references import REFERENCES
from testing.running import check_broken
from torch import Tensor

from zoo_search.similarities.estimators.registry import METRICS
from zoo_search.testing.metrics import Features, MetricContract


class TestCka(MetricContract):
    metric = "cka"
    unbiased = True
    stored_error = 2e-4

    @pytest.fixture(params=["pooled", "maps"])
    def batches(
        self, request: pytest.FixtureRequest, digit_maps: list[Tensor]
    ) -> list[list[Tensor]]:
        """Three batches, float64; maps have more features than there are images."""
        pooled = request.param == "pooled"
        wanted = [m.mean((2, 3)) if pooled else m.flatten(1)[:, :400] for m in digit_maps]
        return [[x[i : i + 40].double() for x in wanted] for i in (0, 40, 80)]

    def reference(self, xs: Features, ys: Features) -> float:
        return REFERENCES[self.metric](xs, ys)


class TestRbfCka(TestCka):
    metric = "rbf_cka"


class TestCkaBiased(TestCka):
    metric = "cka_biased"
    unbiased = False
    in_unit_interval = True


class TestLr(TestCka):
    metric = "lr"
    unbiased = False
    in_unit_interval = True
    invertible = True


def test_all_of_ours_are_here() -> None:
    suites = (TestCka, TestRbfCka, TestCkaBiased, TestLr)
    assert {suite.metric for suite in suites} == set(METRICS.ours)


def test_a_broken_metric_fails() -> None:
    check_broken(Path(__file__).with_name("broken_metrics.py"), MetricContract)
