"""Predictions of files, folders and patterns, against the network itself, picture by picture."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_winner import SIZE, Made

import zoo_search as zs
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import ProtocolResult, Result, Training, Winners
from zoo_search.training.choice import Kept


@pytest.fixture(scope="module")
def photos(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five digits in two folders, beside a file that is no image."""
    root = tmp_path_factory.mktemp("photos")
    for place, picture in enumerate(made.pictures(5)):
        folder = root / ("a" if place < 3 else "b/deep")
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{place}.png")
    (root / "notes.txt").write_text("no image")
    return root


FILES = ("a/0.png", "a/1.png", "a/2.png", "b/deep/3.png", "b/deep/4.png")


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_of_a_folder_what_the_network_says_of_each_picture(
    made: Made, photos: Path, batch_size: int | None
) -> None:
    found = zs.predict(made.folder, photos, batch_size=batch_size, device="cpu")
    expected = made.probabilities(made.pictures(5))
    assert found.files == tuple(f"{photos}/{name}" for name in FILES)
    assert found.classes == made.test.classes
    assert found.probabilities == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(found.labels, expected.argmax(axis=1))
    assert found.unreadable == {}
    assert found.winner == f"{made.folder} (reassembly 1)"


def test_files_folders_and_patterns_each_once_in_their_order(
    made: Made, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    given = ["b/deep/4.png", "*/*.png", "**/3.*", "b", "./a/1.png"]
    found = zs.predict(made.folder, given)
    names = [4, 0, 1, 2, 3]
    assert found.files == tuple(FILES[n] for n in names)
    assert zs.predict(made.folder, "*").files == FILES  # folders, and no text


def test_unreadable_images_are_counted_and_named(made: Made, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no image")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    found = zs.predict(made.folder, [photos / "a", photos / "notes.txt", tmp_path])
    assert len(found) == 3
    reasons = {Path(name).name: reason for name, reason in found.unreadable.items()}
    assert sorted(reasons) == ["empty.png", "gone.png", "notes.txt", "pipe.png", "text.jpg"]
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["text.jpg"] == reasons["notes.txt"] == "not an image of a known format"
    assert "pipe" in reasons["pipe.png"]
    with pytest.raises(UserError, match=r"None of the 4 images can be read: .*the file is empty"):
        zs.predict(made.folder, tmp_path)


def test_names_that_are_no_utf8(made: Made, photos: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 [1].png"
    Path(os.fsdecode(name)).write_bytes((photos / FILES[0]).read_bytes())
    for given in (os.fsdecode(name), str(tmp_path)):
        found = zs.predict(made.folder, given)
        assert found.files == (f"{tmp_path}/caf\\xe9 [1].png",)
        found.save(tmp_path / "t.csv")
        assert "caf\\xe9" in (tmp_path / "t.csv").read_text("utf-8")


def test_tables(made: Made, photos: Path, tmp_path: Path) -> None:
    found = zs.predict(made.folder, photos)
    found.save(tmp_path / "new" / "t.csv")
    found.save(tmp_path / "t.parquet")
    header, *lines = csv.reader(io.StringIO((tmp_path / "new" / "t.csv").read_text("utf-8")))
    assert header == ["file", "class", "probability", *(f"p_{n}" for n in range(10))]
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column_names == header
    rows = found.rows()
    for line, row, plain in zip(lines, rows, table.to_pylist(), strict=True):
        assert line[:2] == [row["file"], row["class"]] == [plain["file"], plain["class"]]
        numbers = [row[name] for name in header[2:]]
        assert [float(value) for value in line[2:]] == numbers
        assert [plain[name] for name in header[2:]] == numbers
        assert row["probability"] == row[f"p_{row['class']}"] == max(numbers[1:])  # type: ignore[type-var]
        assert sum(numbers[1:]) == pytest.approx(1.0, abs=1e-5)  # type: ignore[arg-type]
    for place in ("t.txt", "t"):
        with pytest.raises(UserError, match=r"Give a name that ends in \.csv or \.parquet"):
            found.save(tmp_path / place)


def test_deep_grey_as_in_the_data_set_of_the_training(made: Made, tmp_path: Path) -> None:
    """Of 12 bits in 16: a winner that was trained so says the same as of 8 bits."""
    deep = made.again(tmp_path / "deep", (0, 4095))
    for place, picture in enumerate(made.pictures(4)):
        values = np.rint(np.asarray(picture).astype(np.float64) * (4095 / 255)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{place}.tif")
    expected = made.probabilities(made.pictures(4))
    ours = zs.predict(deep, tmp_path / "*.tif")
    assert ours.probabilities == pytest.approx(expected, abs=1e-5)
    assert not np.allclose(zs.predict(made.folder, tmp_path / "*.tif").probabilities, expected)
    told = json.loads((deep / "config.json").read_text())["preprocess"]
    assert told["value_range"] == [0, 4095]
    assert "4095 white" in (deep / "README.md").read_text()
    plain = json.loads((made.folder / "config.json").read_text())["preprocess"]
    assert "value_range" not in plain
    assert {**plain, "value_range": [0, 4095]} == told
    with Image.open(tmp_path / "0.tif") as picture:
        net = zs.load(deep)
        assert net.transform.image(picture).shape == (3, SIZE, SIZE)
        assert np.allclose(
            net.transform.image(picture), made.net.transform.image(made.pictures(1)[0]), atol=1e-6
        )


def test_a_range_that_is_none_is_refused(made: Made, tmp_path: Path) -> None:
    folder = made.again(tmp_path / "w", (0, 4095))
    config = json.loads((folder / "config.json").read_text())
    config["preprocess"]["value_range"] = [5, 5]
    del config["checks"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"value_range"):
        zs.load(folder)


def result(name: str, role: str, folder: str, accuracy: float, made: Made) -> Result:
    kept = Kept("full", 1, accuracy, 1.0)
    training = Training(0, 0, {"full": ProtocolResult(0.5, 1, 1.0, (), kept)})
    return Result(name, role, made.net.recipe, 1, 1, {}, (training,), folder)  # type: ignore[arg-type]


def test_of_a_run_directory_the_winner(made: Made, photos: Path, tmp_path: Path) -> None:
    """The best reassembly on validation images, as the run tells it."""
    made.again(tmp_path / "winners" / "1")
    results = (
        result("a", "single", "winners/2", 0.9, made),
        result("reassembly 2", "reassembly", "winners/0", 0.4, made),
        result("reassembly 1", "reassembly", "winners/1", 0.6, made),
    )
    told = Winners("digits", made.test.classes, 1, 1, results)
    told.write(RunStore(tmp_path))
    found = zs.predict(f"{tmp_path}/", photos)
    assert found.winner == f"{tmp_path}/winners/1 (reassembly 1)"
    evil = replace(results[2], folder="../../elsewhere")
    replace(told, results=(evil,)).write(RunStore(tmp_path))
    with pytest.raises(UserError, match="names no folder of a reassembly"):
        zs.predict(tmp_path, photos)
    (tmp_path / "winners.json").write_text("{")
    with pytest.raises(UserError, match=r"winners\.json is damaged"):
        zs.predict(tmp_path, photos)


def test_winners_and_images_on_other_storage(made: Made, photos: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{made.folder}/", "/bucket/w/", recursive=True)
    memory.put(f"{photos}/", "/bucket/photos/", recursive=True)
    try:
        found = zs.predict("memory://bucket/w", ["memory://bucket/photos", photos / "a"])
        here = zs.predict(made.folder, photos)
        assert found.files[:5] == tuple(f"memory://bucket/photos/{name}" for name in FILES)
        assert len(found) == 8
        assert np.array_equal(found.probabilities[:5], here.probabilities)
        some = zs.predict(made.folder, "memory://bucket/photos/a/*.png")
        assert len(some) == 3
        found.save("memory://bucket/out.csv")
        assert memory.cat_file("/bucket/out.csv").startswith(b"file,class,probability,p_0")
        with pytest.raises(UserError, match=r"There is nothing at memory://bucket/none"):
            zs.predict(made.folder, "memory://bucket/none")
        memory.pipe_file("/bucket/w/model.safetensors", b"cut")
        with pytest.raises(UserError, match=r"memory://bucket/w"):
            zs.predict("memory://bucket/w", photos)
    finally:
        memory.rm("/bucket", recursive=True)


def test_what_is_not_there_is_said(made: Made, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no network at .*nowhere: it has neither"):
        zs.predict(tmp_path / "nowhere", photos)
    with pytest.raises(UserError, match=r"There is nothing at .*none\.png\. Give image files"):
        zs.predict(made.folder, photos / "none.png")
    for empty in (tmp_path, f"{photos}/*.txt", f"{photos}/none*"):
        with pytest.raises(UserError, match=r"There are no images at"):
            zs.predict(made.folder, empty)
    with pytest.raises(UserError, match=r"No images are given"):
        zs.predict(made.folder, [])
    with pytest.raises(UserError, match=r"--device gpu: there is no such device"):
        zs.predict(made.folder, photos, device="gpu")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"--batch-size 0"):
        zs.predict(made.folder, photos, batch_size=0)
