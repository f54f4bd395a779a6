"""What the index of the images tells is checked before the first step, and told in the report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_images import write_images

from zoo_search.core.errors import UserError
from zoo_search.data.checks.told import TOLD
from zoo_search.run import steps
from zoo_search.run.images import check_images, tell_of_images
from zoo_search.run.pipeline import run as run_steps
from zoo_search.run.run import Run

JOB: dict[str, Any] = {
    "name": "x",
    "search": {"batch_size": 2},
    "zoo": {"m": {"arch": "resnet10t", "weights": None}},
}
ALL = list(steps.STEPS)


def opened(tmp_path: Path, dataset: object, **sections: object) -> Run:
    return Run.open({**JOB, "dataset": dataset, **sections}, str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("counts", "dataset", "sections", "said"),
    [
        ({"a": 4, "b": 4}, {"per_class": 4}, {}, r"no images: dataset\.per_class: 4 takes all"),
        ({"a": 1, "b": 1}, {}, {}, r"test split.*no images: every class has one image"),
        ({"a": 4}, {}, {}, r"one class alone, 'a'"),
        (
            {"a": 9, "b": 9, "c": 9},
            {"limit": 2},
            {},
            r"of the 2 training images .*have none: [abc]\.",
        ),
        (
            {"a": 9, "b": 9},
            {},
            {"similarity": {"limit": 4, "fraction": 0.05}},
            r"at least 4 images, and there",
        ),
        (
            {"a": 9, "b": 9},
            {},
            {"search": {"batch_size": 32}},
            r"batches of 32 different images.* has 14 for the training.*to 14 or less",
        ),
        (
            {"train/a": 1, "train/b": 1, "test/a": 3},
            {},
            {"similarity": {"table": "x.parquet"}},
            r"no class of the 2 training images has two",
        ),
    ],
)
def test_what_the_index_tells_is_refused_before_the_first_step(
    tmp_path: Path,
    counts: dict[str, int],
    dataset: dict[str, object],
    sections: dict[str, object],
    said: str,
) -> None:
    write_images(tmp_path / "images", counts)
    chosen = {"name": "folder", "path": str(tmp_path / "images"), **dataset}
    sections = {"similarity": {"fraction": 1.0}, "search": {"batch_size": 2}, **sections}
    with pytest.raises(UserError, match=said):
        check_images(opened(tmp_path, chosen, **sections), ALL)
    if "similarity" in said or "table" in str(sections):
        return
    with pytest.raises(UserError, match=said):  # and so does the whole, before it loads the zoo
        run_steps({**JOB, "dataset": chosen, **sections}, directory=str(tmp_path / "run"))
    assert not (tmp_path / "run/manifest.json").exists()


def test_steps_that_need_no_test_go_without(tmp_path: Path) -> None:
    write_images(tmp_path / "images", {"a": 4, "b": 4})
    dataset = {"name": "folder", "path": str(tmp_path / "images"), "per_class": 4}
    check_images(opened(tmp_path, dataset, similarity={"fraction": 1.0}), ALL[:4])


def test_a_table_that_is_given_needs_no_images(tmp_path: Path) -> None:
    dataset = {"name": "folder", "path": str(tmp_path / "nowhere")}
    check_images(opened(tmp_path, dataset, similarity={"table": "x.parquet"}), ALL[:3])


def test_what_is_odd_is_said_each_time_and_looked_for_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for name, count in {"a": 6, "b": 3}.items():
        (tmp_path / "images/train" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"images/train/{name}/{i}.png")
    shutil.copytree(tmp_path / "images/train", tmp_path / "images/Val")
    dataset = {"name": "folder", "path": str(tmp_path / "images")}
    tell_of_images(opened(tmp_path, dataset))
    said = capsys.readouterr().err
    assert "note: 9 of 9 held-out images are byte by byte" in said
    kept = opened(tmp_path, dataset).store.kept(TOLD)
    assert kept["classes"] == ["a", "b"]
    assert kept["counts"] == {"train": [6, 3], "test": [6, 3]}
    with monkeypatch.context() as patch:
        patch.setattr("zoo_search.run.images.tell", lambda dataset: pytest.fail("looked again"))
        tell_of_images(opened(tmp_path, dataset))
    assert capsys.readouterr().err == said
    tell_of_images(opened(tmp_path, {**dataset, "per_class": 2}))  # another choice of images
    assert opened(tmp_path, dataset).store.kept(TOLD)["counts"]["train"] == [2, 2]
