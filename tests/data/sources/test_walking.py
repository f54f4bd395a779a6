"""Folders as they lie on disks: links, loops, and names of any bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_images import by_split, write_images

from zoo_search.config import DatasetConfig
from zoo_search.core.byte_names import escaped
from zoo_search.core.errors import UserError
from zoo_search.core.files import file_system
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.data.pack import pack
from zoo_search.data.sources.files import FileTree


def opened(path: Path, **options: object) -> VisionDataset:
    return open_dataset(DatasetConfig(name="folder", path=str(path), **options))


def test_links_to_class_folders_and_images_are_followed(tmp_path: Path) -> None:
    write_images(tmp_path, {"pets/cat": 6, "else/dogs/big": 3, "else/more": 2})
    (tmp_path / "pets/dog").symlink_to(tmp_path / "else/dogs")
    (tmp_path / "pets/cat/more").symlink_to("../../else/more")
    (tmp_path / "pets/cat/one.png").symlink_to("0.png")
    dataset = opened(tmp_path / "pets")
    assert dataset.classes == ("cat", "dog")
    assert np.bincount(dataset.index["label"].to_numpy()).tolist() == [9, 3]
    assert {"dog/big/0.png", "cat/more/1.png"} <= set(dataset.index["id"].to_pylist())
    assert len(dataset.select("train").load((8, 8))) == len(dataset.select("train"))


def test_a_split_that_is_a_link_is_followed(tmp_path: Path) -> None:
    write_images(tmp_path, {"pets/train/a": 4, "pets/train/b": 4, "held/a": 2, "held/b": 2})
    (tmp_path / "pets/test").symlink_to(tmp_path / "held")
    assert len(by_split(opened(tmp_path / "pets"))["test"]) == 4


@pytest.mark.parametrize("to", ["..", "../..", ".", "self"])
def test_a_loop_of_links_is_named(tmp_path: Path, to: str) -> None:
    write_images(tmp_path / "pets", {"cat": 2, "dog": 2})
    (tmp_path / "pets/cat/self").symlink_to(to)
    with pytest.raises(UserError, match=r"cat/self is a link that leads back.*Remove the link"):
        opened(tmp_path / "pets")


def test_two_links_to_one_folder_are_no_loop(tmp_path: Path) -> None:
    write_images(tmp_path, {"pets/cat": 2, "pets/dog": 2, "more": 3})
    for name in ("one", "two"):
        (tmp_path / "pets/cat" / name).symlink_to(tmp_path / "more")
    assert np.bincount(opened(tmp_path / "pets").index["label"].to_numpy()).tolist() == [8, 2]


def test_links_to_nothing_are_named_or_counted(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 4, "dog": 4})
    (tmp_path / "cat/gone.png").symlink_to("nowhere.png")
    whole = opened(tmp_path, max_bad=0.5)
    ids = {*whole.select("train").ids, *whole.select("test").ids}
    assert "cat/gone.png" in ids  # it counts as an image that cannot be decoded
    (tmp_path / "emu").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"emu is a link to nowhere, where nothing is"):
        opened(tmp_path)


NAMES = st.binary(min_size=1, max_size=8).filter(
    lambda name: not set(name) & set(b"\0/") and not name.startswith(b".")
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=st.lists(NAMES, min_size=2, max_size=3, unique=True), file=NAMES)
def test_names_of_any_bytes_are_read_hashed_and_written(
    tmp_path_factory: pytest.TempPathFactory, classes: list[bytes], file: bytes
) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("names"))
    reserved = {b"train", b"test", b"val", b"valid", b"dev", b"eval", b"tr"}
    classes = [b"x" + name if name.lower() in reserved else name for name in classes]
    for number, name in enumerate(classes):
        os.makedirs(root + b"/" + name)  # noqa: PTH103
        for i in range(2):
            path = os.fsdecode(b"%s/%s/%d%s.png" % (root, name, i, file))
            Image.new("RGB", (4, 4), (number, i, 0)).save(path)
    dataset = opened(Path(os.fsdecode(root)))
    assert len(dataset) == 2 * len(classes)
    images = dataset.select("train").load((4, 4))
    assert len(images) == len(classes)
    for name in (*dataset.classes, *images.ids):
        name.encode()
    named = [escaped(os.fsdecode(classes[number])) for number in images.images[:, 0, 0, 0]]
    assert named == [dataset.classes[label] for label in images.labels]


def test_a_latin_1_folder_is_packed_and_its_table_written(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "pets")
    for name in (b"k\xe4fer", b"hund"):
        os.makedirs(root + b"/" + name)  # noqa: PTH103
        for i in range(3):
            Image.new("RGB", (4, 4), (i, 9, 9)).save(
                os.fsdecode(root + b"/%s/\xdf%d.png" % (name, i))
            )
    dataset = opened(tmp_path / "pets")
    assert dataset.classes == ("hund", r"k\xe4fer")
    assert r"k\xe4fer/\xdf0.png" in dataset.index["id"].to_pylist()
    pq.write_table(dataset.index, tmp_path / "index.parquet")
    done = pack(DatasetConfig(name="folder", path=str(tmp_path / "pets")), tmp_path / "out")
    assert done.images == 6
    assert open_dataset(done.dataset).classes == dataset.classes


def test_the_walk_finds_what_fsspec_finds_where_there_are_no_links(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 2, "dog/big/old": 2, ".hidden": 1})
    (tmp_path / "dog/.x").write_text("x")
    fs, root = file_system(tmp_path)
    found = fs.find(root, detail=True)
    assert FileTree(fs, root).sizes() == {
        path[len(root) + 1 :]: found[path]["size"] for path in sorted(found)
    }
