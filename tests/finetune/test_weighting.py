"""Weights of classes, against scikit-learn's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset
from zoo_search.data.base import Subset
from zoo_search.finetune.weighting import class_weights

JOB = {"name": "x", "zoo": {"a": {"arch": "resnet10t"}}, "dataset": "digits"}


@pytest.fixture(scope="module")
def train() -> Subset:
    """Digits, of which there are not as many of each."""
    return open_dataset(load_job(JOB).dataset).select("train")


def test_balanced_is_scikit_learns(train: Subset) -> None:
    found = class_weights("balanced", train)
    expected = compute_class_weight("balanced", classes=np.arange(10), y=train.labels)
    assert found == pytest.approx(expected, rel=1e-12)
    assert class_weights("none", train) is None


def test_weights_by_name_have_the_mean_one_over_the_images(train: Subset) -> None:
    found = class_weights({"7": 4.0, "1": 0.5}, train)
    assert found is not None
    assert np.mean([found[label] for label in train.labels]) == pytest.approx(1.0)
    assert [found[7] / found[0], found[1] / found[0]] == pytest.approx([4.0, 0.5])


def test_a_class_that_is_not_there_is_named(train: Subset) -> None:
    with pytest.raises(UserError, match=r"finetune.class_weights: the data set has no class 'cat'"):
        class_weights({"cat": 2.0}, train)


@pytest.mark.parametrize("wrong", ["heavy", {"cat": 0}, {"cat": -1.0}, {"cat": "x"}, 3, [1, 2]])
def test_other_values_are_refused_with_what_is_allowed(wrong: object) -> None:
    allowed = "give none, balanced, or a weight above 0 for classes by name"
    with pytest.raises(UserError, match=allowed):
        load_job({**JOB, "finetune": {"class_weights": wrong}})


@pytest.mark.parametrize("told", [None, "none", "balanced", {"0": 2.0}])
def test_what_is_allowed_is_read(told: str | Mapping[str, float] | None) -> None:
    job = load_job({**JOB, "finetune": {"class_weights": told}})
    assert job.finetune.class_weights == ("none" if told is None else told)
