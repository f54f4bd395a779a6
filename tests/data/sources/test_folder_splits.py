"""Which folders are splits and which are classes: by their usual names, else said or refused."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_images import by_split, png, write_images

from zoo_search.config import DatasetConfig, load_job
from zoo_search.core.errors import Note, UserError
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.data.sources.held_out import WORDS, assign, split_in, split_of


def opened(path: Path, splits: object = None, **options: object) -> VisionDataset:
    return open_dataset(
        DatasetConfig.model_validate(
            {"name": "folder", "path": str(path), "splits": splits, **options}
        )
    )


def folders_by_split(dataset: VisionDataset) -> dict[str, set[str]]:
    return {
        split: {name.split("/")[0] for name in names}
        for split, names in by_split(dataset).items()
        if names
    }


CASES = (str.lower, str.upper, str.capitalize)


@settings(max_examples=12)
@given(
    words=st.tuples(*(st.sampled_from(WORDS[split]) for split in WORDS)),
    case=st.sampled_from(CASES),
    beside=st.sets(st.sampled_from(("validation", "test")), min_size=1),
)
def test_the_usual_names_are_splits_in_any_case(
    tmp_path_factory: pytest.TempPathFactory,
    words: tuple[str, str, str],
    case: type[str],
    beside: set[str],
) -> None:
    root = tmp_path_factory.mktemp("splits")
    named = {s: case(w) for s, w in zip(WORDS, words, strict=True) if s in beside | {"train"}}
    write_images(root, {f"{name}/{c}": 2 for name in named.values() for c in ("cat", "dog")})
    dataset = opened(root)
    assert dataset.classes == ("cat", "dog")
    if "test" not in named:  # a validation without a test is the test
        named["test"] = named.pop("validation")
    assert folders_by_split(dataset) == {split: {name} for split, name in named.items()}


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (
            ["train/a", "train/b", "car/red", "car/blue"],
            r"train can be the training split, and car",
        ),
        (["val/a", "val/b", "Test/a", "Test/b"], r"a training split is missing"),
        (["test/a", "test/b"], r"a training split is missing"),
        (["train", "test"], r"lack a folder for each class"),
        (["Training", "Testing", "dev"], r"lack a folder for each class"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], r"splits above the classes, as in t"),
        (["all/train/a", "all/train/b", "all/val/a"], r"let dataset\.path end in /all"),
        (["Lern/a", "Lern/b", "Test/a", "Test/b"], r"Lern, Test hold the same folders \(a, b\)"),
        (["train/a", "val/b"], r"class folders that train/ lacks: b.*dataset\.splits: drawn"),
        (["train/a", "train/b", "val/a", "valid/a"], r"val and valid can both be the validation"),
        (["train/a", "Train/a", "test/a"], r"Train and train can both be the train split"),
        (["train/a", "test/a", "eval/a"], r"eval and test can both be the test split"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, folders: list[str], said: str
) -> None:
    write_images(tmp_path, dict.fromkeys(folders, 3))
    with pytest.raises(UserError, match=said) as refused:
        opened(tmp_path)
    assert "dataset.splits" in str(refused.value)
    drawn = opened(tmp_path, "drawn")  # the way out that it names
    assert drawn.classes == tuple(sorted({name.split("/")[0] for name in folders}))


@pytest.mark.parametrize(
    "classes",
    [
        ["train", "plane", "car"],
        ["test/monday", "control/monday"],
        ["tr/1", "de/1", "en/1"],
        ["eval", "other"],
    ],
)
def test_classes_that_are_called_like_splits_stay_classes(
    tmp_path: Path, classes: list[str]
) -> None:
    write_images(tmp_path, dict.fromkeys(classes, 3))
    assert opened(tmp_path).classes == tuple(sorted(name.split("/")[0] for name in classes))


def test_folders_that_hold_the_same_folders_are_said(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{day}/{c}": 3 for day in ("monday", "friday") for c in "ab"})
    with pytest.warns(Note, match=r"friday, monday hold the same folders \(a, b\)"):
        assert opened(tmp_path).classes == ("friday", "monday")


def test_what_is_beside_the_splits_is_said(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/a": 3, "val/a": 2, "raw/a": 2, "test": 2})
    (tmp_path / "notes").mkdir()
    with pytest.warns(Note, match=r"raw, test in .* left out"):
        assert folders_by_split(opened(tmp_path)) == {"train": {"train"}, "test": {"val"}}


def test_a_run_file_says_which_is_which(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{s}/{c}": 4 for s in ("Lern", "Pruef", "val") for c in "ab"})
    told = {"train": "Lern", "validation": "val", "test": "Pruef"}
    assert folders_by_split(opened(tmp_path, told)) == {s: {n} for s, n in told.items()}
    two = {"train": "Lern", "test": "val"}
    assert folders_by_split(opened(tmp_path, two)) == {s: {n} for s, n in two.items()}
    assert opened(tmp_path, two).fingerprint != opened(tmp_path, told).fingerprint
    with pytest.raises(UserError, match=r"no folder 'Test' .*Found: Lern, Pruef, val"):
        opened(tmp_path, {"train": "Lern", "test": "Test"})
    job = {"name": "x", "zoo": {"m": {"arch": "x"}}}
    job["dataset"] = {"name": "folder", "path": str(tmp_path), "splits": told}
    again = load_job(yaml.safe_load(load_job(job).to_yaml()))
    assert again.dataset.splits == DatasetConfig.model_validate(job["dataset"]).splits


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": "a", "validation": "b"}, "test is missing"),
        ({"test": "a"}, "train is missing"),
        ({"train": "a", "test": "a"}, "same name"),
        ({}, "give the names"),
        ("none", "dataset.splits"),
        ({"train": "a", "tset": "b"}, "unknown key 'tset'"),
    ],
)
def test_splits_that_make_no_sense_are_refused_when_read(splits: object, said: str) -> None:
    dataset = {"name": "folder", "path": "x", "splits": splits}
    with pytest.raises(UserError, match=said):
        load_job({"name": "x", "zoo": {"m": {"arch": "x"}}, "dataset": dataset})


def test_defaults_leave_the_identity_as_it_was() -> None:
    plain = DatasetConfig(name="digits").identity()
    assert "splits" not in plain
    assert "splits" in DatasetConfig(name="digits", splits={"drawn": True}).identity()


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("data/Train-000.tar", "Train"),
        ("dev/train/0.parquet", "train"),
        ("x/dev-000.tar", "dev"),
        ("trainer/tests.tar", None),
        ("TESTING.parquet", "TESTING"),
        ("a-train-b-test.tar", "train"),
    ],
)
def test_words_in_paths(path: str, word: str | None) -> None:
    assert split_in(path) == word


@given(st.sets(st.sampled_from(list(itertools.chain(*WORDS.values()))), min_size=1))
def test_every_choice_of_names_is_assigned_or_refused(names: set[str]) -> None:
    """Against the plain statement: one name a split, and a lone validation is the test."""
    several = Counter(split_of(name) for name in names)
    if max(several.values()) > 1:
        with pytest.raises(UserError, match="can both be"):
            assign(names, None, "splits")
        return
    found = assign(names, None, "splits")
    assert sorted(found.values()) == sorted(names)
    expected = {"train"} & several.keys() | ({"test"} if several.keys() - {"train"} else set())
    if {"validation", "test"} <= several.keys():
        expected.add("validation")
    assert found.keys() == expected


def test_a_column_of_a_table_and_its_other_values(tmp_path: Path) -> None:
    words = ["Training"] * 4 + ["Testing"] * 2 + ["extra"]
    rows = {"image": [png(i) for i in range(7)], "label": [0, 1, 0, 1, 0, 1, 0], "split": words}
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    config = {"name": "parquet", "path": str(tmp_path / "x.parquet")}
    with pytest.warns(Note, match="1 images of extra are in none of the splits"):
        dataset = open_dataset(DatasetConfig.model_validate(config))
    assert Counter(dataset.index["split"].to_pylist()) == {"train": 4, "test": 2}
    told = {**config, "splits": {"train": "Training", "validation": "extra", "test": "Testing"}}
    dataset = open_dataset(DatasetConfig.model_validate(told))
    assert Counter(dataset.index["split"].to_pylist()) == {"train": 4, "validation": 1, "test": 2}
    with pytest.raises(UserError, match=r"no splits 'x'\. Found: Testing, Training, extra"):
        open_dataset(
            DatasetConfig.model_validate({**config, "splits": {"train": "x", "test": "extra"}})
        )
    drawn = open_dataset(DatasetConfig.model_validate({**config, "splits": "drawn"}))
    assert len(drawn) == 7
