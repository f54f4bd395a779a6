"""What a partition problem refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

from zoo_search.core.errors import UserError
from zoo_search.partitions.api import partition
from zoo_search.partitions.problem.definition import from_table
from zoo_search.similarities.table import ModelCuts, SimilarityTable


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 0}, "partition.k"),
        ({"eps": -0.1}, "partition.eps"),
        ({"eps": float("nan")}, "partition.eps"),
        ({"size": "param"}, "Did you mean 'params'"),
        ({"method": "exat"}, "Did you mean 'exact'"),
        ({"restarts": 0}, "partition.restarts"),
        ({"seed": -1}, "seed"),
        ({"k": 11}, "'partition.k' is 11"),
    ],
)
def test_arguments_out_of_range(random_table, change, words):
    with pytest.raises(UserError, match=re.escape(words)):
        partition(random_table([16, 12]), **{"eps": 1.0, **change})


def test_sizes_that_are_all_zero_are_refused():
    models = {"a": ModelCuts(["i", "x", "y"], [0, 0], [1, 1])}
    with pytest.raises(UserError, match="'a' has no parameters"):
        from_table(SimilarityTable(models, np.eye(3)), k=2, size="params")


def test_an_empty_table_is_refused():
    with pytest.raises(UserError, match="no model"):
        from_table(SimilarityTable({}, np.zeros((0, 0))), k=2)
