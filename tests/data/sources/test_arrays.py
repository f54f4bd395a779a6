"""Data sets that come with Python packages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import VisionDataset, open_dataset


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


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_a_packaged_data_set_takes_no_path(name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}' comes with a Python package and takes no path"):
        open_dataset(DatasetConfig(name=name, path="images"))
