"""Evaluations against scikit-learn, on data sets of all kinds."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn import metrics as theirs
from small_winner import JOB, Made

import zoo_search as zs
from zoo_search.core.errors import Note, UserError
from zoo_search.training.metrics import calibration_error

COUNT = 60


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("job") / "digits.yaml"
    path.write_text(yaml.safe_dump(JOB))
    return path


@pytest.fixture(scope="module")
def folder(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first test images as files, by class."""
    root = tmp_path_factory.mktemp("digits")
    for place, (picture, label) in enumerate(
        zip(made.pictures(COUNT), made.test.labels, strict=False)
    ):
        (root / str(label)).mkdir(exist_ok=True)
        picture.save(root / str(label) / f"{place}.png")
    return root


def test_of_a_run_file_the_test_images_of_the_run(made: Made, job: Path) -> None:
    """All metrics against scikit-learn, on what the network says image by image."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        found = zs.evaluate(made.folder, job)
    labels = made.test.labels
    said = made.probabilities(made.pictures(len(labels)))
    predicted = said.argmax(axis=1)
    assert found.data == "the split test of digits"
    assert np.array_equal(found.confusion, theirs.confusion_matrix(labels, predicted))
    assert found.accuracy == theirs.accuracy_score(labels, predicted)
    assert 0.5 < found.accuracy < 1
    balanced = theirs.balanced_accuracy_score(labels, predicted)
    assert found.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
    f1 = theirs.f1_score(labels, predicted, average="macro")
    assert found.macro_f1 == pytest.approx(f1, abs=1e-12)
    error = calibration_error(said, labels)
    assert found.calibration_error == pytest.approx(error, abs=1e-4)
    rows = found.rows()
    expected = np.array(theirs.precision_recall_fscore_support(labels, predicted)).T
    names = ("precision", "recall", "f1", "count")
    assert np.allclose([[row[name] for name in names] for row in rows], expected)
    assert found.images == len(labels)
    assert found.to_dict()["confusion"] == found.confusion.tolist()


def test_a_folder_of_classes_is_taken_whole_and_matched_by_name(made: Made, folder: Path) -> None:
    with pytest.warns(Note, match="images that the network was trained on may be among them"):
        found = zs.evaluate(made.folder, folder, batch_size=7)
    labels = made.test.labels[:COUNT]
    predicted = made.probabilities(made.pictures(COUNT)).argmax(axis=1)
    expected = theirs.confusion_matrix(labels, predicted, labels=range(10))
    assert np.array_equal(found.confusion, expected)


def test_parquet_and_a_section_say_the_same(made: Made, folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.rglob("*.png"))
    images = [{"bytes": path.read_bytes()} for path in files]
    table = {"image": images, "label": [path.parent.name for path in files]}
    pq.write_table(pa.table(table), tmp_path / "digits.parquet")
    section = {"name": "folder", "path": str(folder)}
    counts = [
        zs.evaluate(made.folder, data, split="all").confusion
        for data in (tmp_path / "digits.parquet", tmp_path, section)
    ]
    assert all(np.array_equal(one, counts[0]) for one in counts)
    assert counts[0].sum() == COUNT


def test_splits(made: Made, folder: Path, job: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(folder)
    (tmp_path / "test" / "3").mkdir(parents=True)
    for path in (folder / "3").iterdir():
        (tmp_path / "test" / "3" / path.name).write_bytes(path.read_bytes())
    with pytest.warns(Note, match=r"9 of the network's 10 classes have no images"):
        own = zs.evaluate(made.folder, tmp_path)
    assert own.data == f"the split test of {tmp_path}"
    assert own.images == len(list((folder / "3").iterdir()))
    assert own.accuracy == own.balanced_accuracy
    assert own.rows()[5]["recall"] is None
    assert zs.evaluate(made.folder, job, split="train").images == 200
    changed = zs.evaluate(made.folder, job, split="train", changes=["dataset.per_class=7"])
    assert changed.images == 70
    assert zs.evaluate(made.folder, "digits").images == 1797
    with pytest.raises(UserError, match=r"--split tset: there is no such split. Did you mean"):
        zs.evaluate(made.folder, job, split="tset")
    with pytest.raises(UserError, match=r"has no validation split"):
        zs.evaluate(made.folder, job, split="validation")


def test_classes_that_differ(made: Made, folder: Path, tmp_path: Path) -> None:
    for name in ("3", "5"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "Cat").symlink_to(folder / "7")
    with pytest.raises(UserError, match=r"does not know 1 of the 3 classes of .*: Cat. It knows 0"):
        zs.evaluate(made.folder, tmp_path)
    found = zs.evaluate(made.folder, tmp_path, known_only=True)
    assert found.left_out == {"Cat": len(list((folder / "7").iterdir()))}
    assert found.confusion.sum(axis=1).nonzero()[0].tolist() == [3, 5]
    for name in ("3", "5"):
        (tmp_path / name).unlink()
    (tmp_path / "Dog").symlink_to(folder / "8")
    with pytest.raises(UserError, match=r"is one of the network's: there Cat, Dog, here 0"):
        zs.evaluate(made.folder, tmp_path, known_only=True)


def test_unreadable_images_count_for_nothing(made: Made, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    (tmp_path / "4").symlink_to(folder / "4")
    (tmp_path / "3" / "bad.png").write_text("no image")
    found = zs.evaluate(made.folder, tmp_path)
    assert found.unreadable == {"3/bad.png": "not an image of a known format"}
    assert found.images == len(list((folder / "4").iterdir()))
    (tmp_path / "4").unlink()
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "bad.png").write_text("no image")
    with pytest.raises(UserError, match=r"None of the 2 images of .* can be read: 3/bad.png"):
        zs.evaluate(made.folder, tmp_path)


def test_what_is_no_data_set_is_said(made: Made, job: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data digist: there is nothing .*Did you mean 'digits'"):
        zs.evaluate(made.folder, "digist")
    with pytest.raises(UserError, match=r"--set a=1 overrules a value of a run file, and digits"):
        zs.evaluate(made.folder, "digits", changes=["a=1"])
    with pytest.raises(UserError, match=r"has no class folders"):
        zs.evaluate(made.folder, tmp_path)
    with pytest.raises(UserError, match=r"unknown key 'pth'"):
        zs.evaluate(made.folder, {"name": "folder", "pth": "x"})
